"""What only RabbitMQ can do to a publisher: returns, alarms, refusals, and acknowledgements in any order."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pamqp import commands, frame, header
from pamqp.body import ContentBody
from tests.integration.brokers.conftest import Broker, make_messages, publishing
from tests.support.waiting import eventually

from taskfleet_api.brokers import FailureKind, build_message, open_publisher
from taskfleet_core.amqp import split_frames


async def test_messages_for_a_missing_queue_are_returned(rabbitmq: Broker) -> None:
    """Only those, in whatever mixture; the connection stays."""
    queue = rabbitmq.make_queue()
    there, missing = make_messages(queue, 300), make_messages("no-such-queue", 300)
    mixed = [message for pair in zip(there, missing, strict=True) for message in pair]
    async with publishing(rabbitmq.url, window=100) as publisher:
        assert await publisher.wait_connected(10)
        outcomes = await publisher.publish(mixed)
        assert publisher.connected
    assert outcomes[::2] == [None] * 300
    assert {outcome.kind if outcome else None for outcome in outcomes[1::2]} == {FailureKind.RETURNED}
    assert "no-such-queue" in (outcomes[1].detail if outcomes[1] else "")


async def test_a_full_queue_nacks(rabbitmq: Broker) -> None:
    queue = rabbitmq.make_queue()
    server: Any = rabbitmq.server
    server.management(
        "PUT",
        f"/api/policies/%2F/{queue}",
        {"pattern": f"^{queue}$", "definition": {"max-length": 5, "overflow": "reject-publish"}, "priority": 1},
    )

    async def is_full() -> bool:
        outcomes = await publisher.publish(make_messages(queue, 50))
        return any(outcome and outcome.kind is FailureKind.NACKED for outcome in outcomes)

    async with publishing(rabbitmq.url) as publisher:
        assert await publisher.wait_connected(10)
        await eventually(is_full)
        assert publisher.connected


async def test_a_memory_alarm_blocks_within_the_time_limit_and_is_waited_out(rabbitmq: Broker) -> None:
    queue = rabbitmq.make_queue()
    server: Any = rabbitmq.server
    async with publishing(rabbitmq.url, timeout_seconds=1.0) as publisher:
        assert await publisher.wait_connected(10)
        try:
            await asyncio.to_thread(server.control, "set_vm_memory_high_watermark", "absolute", "100000")
            first = await asyncio.wait_for(publisher.publish(make_messages(queue, 5)), 10)
            await eventually(lambda: publisher.blocked is not None)
            calls = [publisher.publish(make_messages(queue, 5)) for _ in range(6)]
            second, *others = await asyncio.wait_for(asyncio.gather(*calls), 5)
        finally:
            await asyncio.to_thread(server.control, "set_vm_memory_high_watermark", "0.6")
        assert {outcome.kind if outcome else None for outcome in first} <= {None, FailureKind.TIMEOUT}
        blocked = [outcome for call in (second, *others) for outcome in call]
        assert {outcome.kind if outcome else None for outcome in blocked} == {FailureKind.TIMEOUT}
        assert "blocks publishers" in (second[0].detail if second[0] else "")
        assert await publisher.wait_connected(10)

        async def publishes_again() -> bool:
            return await publisher.publish(make_messages(queue, 5)) == [None] * 5

        await eventually(publishes_again, timeout_seconds=20)
        assert publisher.blocked is None


async def test_wrong_credentials_are_not_in_the_error(rabbitmq: Broker) -> None:
    url = rabbitmq.url.replace("guest:guest", "guest:s3cret")
    async with publishing(url) as publisher:
        assert not await publisher.wait_connected(1)
        (failure,) = await publisher.publish(make_messages("q", 1))
    assert failure is not None
    assert "s3cret" not in failure.detail


async def test_a_message_that_amqp_cannot_carry_fails_alone(rabbitmq: Broker) -> None:
    queue = rabbitmq.make_queue()
    good = make_messages(queue, 4)
    bad = build_message(task_id="x" * 300, queue=queue, task="t")
    async with publishing(rabbitmq.url) as publisher:
        assert await publisher.wait_connected(10)
        outcomes = await publisher.publish([bad, *good[:2], bad, bad, *good[2:], bad])
    kinds = [outcome.kind if outcome else None for outcome in outcomes]
    nacked = FailureKind.NACKED
    assert kinds == [nacked, None, None, nacked, nacked, None, None, nacked]


async def test_one_of_several_servers_is_enough(rabbitmq: Broker) -> None:
    async with publishing("amqp://127.0.0.1:1//;" + rabbitmq.url) as publisher:
        assert await publisher.wait_connected(10)


class ScriptedBroker:
    """An AMQP peer that answers messages as the script says, called with all ids once `expected` are there."""

    def __init__(self, expected: int, script: Callable[[list[str]], list[bytes]]) -> None:
        self._expected = expected
        self._script = script
        self.ids: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(frame.marshal(commands.Connection.Start(0, 9, {"version": "4.3.0"}, "PLAIN", "en_US"), 0))
        rest = b""
        while data := await reader.read(65536):
            frames, rest = split_frames(rest + data)
            for kind, payload in frames:
                for answer in self._answer(kind, payload):
                    writer.write(answer)
        writer.close()

    def _answer(self, kind: int, payload: bytes) -> list[bytes]:
        if kind == 2:
            content = header.ContentHeader()
            content.unmarshal(payload)
            self.ids.append(content.properties.message_id or "")
            return self._script(self.ids) if len(self.ids) == self._expected else []
        if kind != 1:
            return []
        answers: dict[tuple[int, ...], list[tuple[Any, int]]] = {
            (10, 11): [(commands.Connection.Tune(10, 131072, 60), 0)],
            (10, 40): [(commands.Connection.OpenOk(), 0)],
            (20, 10): [(commands.Channel.OpenOk(), 1)],
            (85, 10): [(commands.Confirm.SelectOk(), 1)],
            (10, 50): [(commands.Connection.CloseOk(), 0)],
        }
        found = answers.get(struct.unpack_from(">HH", payload), [])
        return [frame.marshal(method, channel) for method, channel in found]


@asynccontextmanager
async def scripted(
    expected: int, script: Callable[[list[str]], list[bytes]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    peer = ScriptedBroker(expected, script)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"{'amqps' if tls else 'amqp'}://127.0.0.1:{server.sockets[0].getsockname()[1]}//"


def ack(tag: int, multiple: bool = False) -> bytes:
    return bytes(frame.marshal(commands.Basic.Ack(tag, multiple), 1))


def nack(tag: int, multiple: bool = False) -> bytes:
    return bytes(frame.marshal(commands.Basic.Nack(tag, multiple, False), 1))


def returned(task_id: str) -> bytes:
    parts = [
        frame.marshal(commands.Basic.Return(312, "NO_ROUTE", "", "q"), 1),
        frame.marshal(header.ContentHeader(0, 1, commands.Basic.Properties(message_id=task_id)), 1),
        frame.marshal(ContentBody(b"x"), 1),
    ]
    return b"".join(parts)


async def publish_to(
    expected: int, script: Callable[[list[str]], list[bytes]], **options: Any
) -> list[FailureKind | None]:
    async with scripted(expected, script) as url, publishing(url, **options) as publisher:
        assert await publisher.wait_connected(5)
        outcomes = await asyncio.wait_for(publisher.publish(make_messages("q", expected)), 10)
    return [outcome.kind if outcome else None for outcome in outcomes]


async def test_acks_out_of_order_and_in_multiples() -> None:
    def script(ids: list[str]) -> list[bytes]:
        return [ack(5), nack(2), ack(3, multiple=True), ack(6), nack(4)]

    assert await publish_to(6, script) == [None, FailureKind.NACKED, None, FailureKind.NACKED, None, None]


async def test_returns_before_their_ack_are_matched_by_message_id() -> None:
    def script(ids: list[str]) -> list[bytes]:
        return [returned(ids[3]), returned(ids[1]), ack(4, multiple=True)]

    assert await publish_to(4, script) == [None, FailureKind.RETURNED, None, FailureKind.RETURNED]


async def test_answers_cut_into_single_bytes_are_understood() -> None:
    def script(ids: list[str]) -> list[bytes]:
        whole = returned(ids[0]) + ack(1) + ack(2)
        return [whole[at : at + 1] for at in range(len(whole))]

    assert await publish_to(2, script) == [FailureKind.RETURNED, None]


async def test_some_acks_and_then_silence_fail_the_rest_by_the_time_limit() -> None:
    assert await publish_to(3, lambda ids: [ack(2)], timeout_seconds=0.3) == [
        FailureKind.TIMEOUT,
        None,
        FailureKind.TIMEOUT,
    ]


async def test_a_closed_channel_fails_what_is_in_flight() -> None:
    closing = frame.marshal(commands.Channel.Close(406, "PRECONDITION_FAILED - too large", 60, 40), 1)
    assert await publish_to(3, lambda ids: [ack(1), closing]) == [
        None,
        FailureKind.CONNECTION,
        FailureKind.CONNECTION,
    ]


async def test_a_peer_that_talks_nonsense_is_left() -> None:
    assert await publish_to(2, lambda ids: [b"HTTP/1.1 400 Bad Request\r\n\r\n"]) == [FailureKind.CONNECTION] * 2


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test broker")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "broker.pem"
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


async def test_tls_is_spoken_and_the_certificate_checked(tmp_path: Path) -> None:
    path = make_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path)
    async with scripted(2, lambda ids: [ack(2, multiple=True)], tls) as url:
        async with publishing(url) as stranger:
            assert not await stranger.wait_connected(0.5)
        async with publishing(f"{url}?cacertfile={path}") as publisher:
            assert await publisher.wait_connected(5)
            assert await publisher.publish(make_messages("q", 2)) == [None, None]


async def test_nine_is_served_first_and_none_like_zero(rabbitmq43: Any) -> None:
    broker = Broker("rabbitmq43", rabbitmq43)
    queue = broker.make_queue()
    messages = [message for priority in (None, 0, 5, 9) for message in make_messages(queue, 2, priority=priority)]
    async with publishing(broker.url) as publisher:
        assert await publisher.wait_connected(10)
        assert await publisher.publish(messages) == [None] * 8
    ids = [message.task_id for message in messages]
    assert await asyncio.to_thread(broker.read_ids, queue) == [*ids[6:8], *ids[4:6], *ids[0:4]]


async def test_opening_needs_no_event_loop_and_no_broker() -> None:
    publisher = await asyncio.to_thread(open_publisher, "amqp://127.0.0.1:1//")
    assert not publisher.connected
    await publisher.close()
