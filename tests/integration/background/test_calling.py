"""Receivers are told that tasks have ended, whatever they do to the calls, and one bad one holds up no other."""

import asyncio
import base64
import hashlib
import hmac
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from tests.support.events import build_new_task, build_state_event
from tests.support.receivers import Receiver, answer, open_receiver
from tests.support.waiting import eventually

from taskfleet_api.background import BackgroundOptions
from taskfleet_api.background.calling import CallbackSender
from taskfleet_api.callbacks import CallbackClient, CallbackPolicy, CallbackRules, decode_secret
from taskfleet_api.records import CallbackRecord, CallbackState, NewCallback, Records, open_records
from taskfleet_api.tasks.callbacks import TaskCaller
from taskfleet_core.ending import end_tasks
from taskfleet_core.states import TaskState

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOCAL = CallbackPolicy(CallbackRules(allow=("127.0.0.1",)))
FAST = BackgroundOptions(
    callback_interval_seconds=0.05,
    callback_timeout_seconds=1.0,
    callback_lease_margin_seconds=1.0,
    callback_attempts=4,
    callback_backoff_seconds=0.05,
    callback_max_backoff_seconds=0.1,
    callback_review_seconds=0.05,
)


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Say nothing until the caller has gone."""
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer so slowly that each byte alone is in time and the whole never is."""
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Header: slow\r\n" * 1000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)
        if reader.at_eof():
            return


async def die(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Half an answer, then a reset."""
    writer.write(b"HTTP/1.1 20")
    await writer.drain()
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A good status and a body without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


class Ends:
    """Tasks with callbacks that end, on one database, and senders as replicas have them."""

    def __init__(self, records: Records) -> None:
        self.records = records

    async def end(self, *urls: str, state: str = "succeeded") -> list[UUID]:
        tasks = [build_new_task(callback=NewCallback(url, LOCAL.check(url).receiver)) for url in urls]
        await self.records.insert_tasks(tasks)
        await self.records.apply_events(
            [build_state_event(TaskState(state), task.id, result={"sum": 5}) for task in tasks]
        )
        return [task.id for task in tasks]

    async def callback(self, task_id: UUID) -> CallbackRecord:
        record = await self.records.get(task_id)
        assert record is not None
        assert record.callback is not None
        return record.callback

    async def settled(self, task_id: UUID) -> CallbackRecord:
        """The callback once it is delivered or given up."""

        async def probe() -> CallbackRecord | None:
            found = await self.callback(task_id)
            return found if found.state in (CallbackState.DELIVERED, CallbackState.GIVEN_UP) else None

        return await eventually(probe, timeout_seconds=20)

    @asynccontextmanager
    async def sender(self, policy: CallbackPolicy = LOCAL, options: BackgroundOptions = FAST) -> AsyncIterator[None]:
        """One that runs; in the end it goes at once, as if its process did."""
        client = CallbackClient(policy, options.callback_timeout_seconds)
        sender = CallbackSender(self.records, TaskCaller(client, [decode_secret(SECRET), b"n" * 32]), options)

        async def run() -> None:
            while True:
                await asyncio.sleep(await sender.step())

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            await end_tasks([task])
            await sender.close(0)
            await client.close()


@pytest.fixture
async def ends(migrated_url: str) -> AsyncIterator[Ends]:
    async with AsyncExitStack() as stack:
        records = await open_records(migrated_url)
        stack.push_async_callback(records.close)
        yield Ends(records)


async def test_a_receiver_is_told_the_task_and_can_prove_who_calls(ends: Ends) -> None:
    async with open_receiver() as receiver, ends.sender():
        (task_id,) = await ends.end(receiver.url)
        told = await ends.settled(task_id)
    assert (told.state, told.tries, told.last_status, told.last_error) == (CallbackState.DELIVERED, 1, 204, None)
    (call,) = receiver.calls
    headers, document = call.headers, call.document
    assert (call.path, headers["host"]) == ("/hook?from=test", f"127.0.0.1:{receiver.port}")
    assert (document["type"], document["data"]["id"], document["data"]["state"]) == (
        "task.succeeded",
        str(task_id),
        "succeeded",
    )
    assert document["data"]["result"] == {"sum": 5}
    assert document["delivery"] == {"id": headers["webhook-id"], "attempt": 1}
    assert "args" not in document["data"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + call.body
    for key, signature in zip((decode_secret(SECRET), b"n" * 32), headers["webhook-signature"].split(" "), strict=True):
        assert signature == "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        pytest.param(answer(500), "answered 500", id="fails"),
        pytest.param(hang, "no answer within 0.3 s", id="hangs"),
        pytest.param(drip, "no answer within 0.3 s", id="drips"),
        pytest.param(die, "the connection ended before an answer", id="dies"),
        pytest.param(answer(302, "Location: http://127.0.0.1:1/"), "answered 302: redirects are not", id="redirects"),
    ],
)
async def test_a_call_that_fails_is_repeated_with_the_same_id(ends: Ends, behaviour: Any, error: str) -> None:
    options = BackgroundOptions(
        **{name: getattr(FAST, name) for name in FAST.__slots__} | {"callback_timeout_seconds": 0.3}
    )
    async with open_receiver(behaviour, answer(200)) as receiver, ends.sender(options=options):
        (task_id,) = await ends.end(receiver.url)
        failed = await eventually(lambda: _failed(ends, task_id))
        assert failed.last_error is not None
        assert failed.last_error.startswith(error)
        told = await ends.settled(task_id)
    assert (told.state, told.tries) == (CallbackState.DELIVERED, 2)
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
    assert [call.document["delivery"]["attempt"] for call in receiver.calls] == [1, 2]


async def _failed(ends: Ends, task_id: UUID) -> CallbackRecord | None:
    found = await ends.callback(task_id)
    return found if found.last_error or found.state is CallbackState.DELIVERED else None


async def test_a_body_without_an_end_is_not_read(ends: Ends) -> None:
    async with open_receiver(flood) as receiver, ends.sender():
        (task_id,) = await ends.end(receiver.url)
        assert (await ends.settled(task_id)).state is CallbackState.DELIVERED


async def test_a_receiver_that_never_answers_well_is_given_up(ends: Ends) -> None:
    async with open_receiver(answer(503)) as receiver, ends.sender():
        (task_id,) = await ends.end(receiver.url, state="failed")
        told = await ends.settled(task_id)
        assert (told.state, told.tries, told.last_status) == (CallbackState.GIVEN_UP, 4, 503)
    assert len(receiver.calls) == 4


async def test_a_receiver_that_is_gone_is_not_called_again(ends: Ends) -> None:
    async with open_receiver(answer(410)) as receiver, ends.sender():
        (task_id,) = await ends.end(receiver.url)
        told = await ends.settled(task_id)
    assert (told.state, told.tries) == (CallbackState.GIVEN_UP, 1)


async def test_a_dead_receiver_holds_up_no_other(ends: Ends) -> None:
    """Sixty calls wait for one that hangs; those for the living one do not wait for their time limits."""
    async with open_receiver(hang) as dead, open_receiver() as alive, ends.sender():
        stuck = await ends.end(*[dead.url] * 60)
        await eventually(lambda: len(dead.calls) >= FAST.callback_concurrency_per_host)
        told = await ends.end(*[alive.url] * 20)
        for task_id in told:
            assert (await ends.settled(task_id)).tries == 1
        assert dead.most_at_once <= FAST.callback_concurrency_per_host
        assert len(dead.calls) < len(stuck), "the living one was told before the dead one's queue was through"
    assert alive.most_at_once <= FAST.callback_concurrency_per_host
    assert len(alive.calls) == 20


async def test_a_replica_that_dies_in_a_call_leaves_it_to_another(ends: Ends) -> None:
    async with open_receiver(hang, answer(204)) as receiver:
        async with ends.sender():
            (task_id,) = await ends.end(receiver.url)
            await eventually(lambda: receiver.calls)
        assert (await ends.callback(task_id)).state is CallbackState.PENDING
        async with ends.sender():
            told = await ends.settled(task_id)
    assert (told.state, told.tries) == (CallbackState.DELIVERED, 2)
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1


async def test_two_replicas_make_each_call_once(ends: Ends) -> None:
    async with open_receiver() as receiver, ends.sender(), ends.sender():
        for task_id in await ends.end(*[receiver.url] * 40):
            assert (await ends.settled(task_id)).tries == 1
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == len(receiver.calls) == 40


async def test_what_was_taken_and_is_refused_since_is_not_called(ends: Ends) -> None:
    async with open_receiver() as receiver, ends.sender(policy=CallbackPolicy()):
        (task_id,) = await ends.end(receiver.url)
        told = await ends.settled(task_id)
    assert told.state is CallbackState.GIVEN_UP
    assert told.last_error is not None
    assert told.last_error.startswith("refused: ")
    assert receiver.calls == []


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What hook.example resolves to: each question takes the next address, the last one stays."""
    addresses: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **named: Any) -> Any:
        if host != "hook.example":
            return real(host, port, *args, **named)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        address = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return addresses


async def post(receiver: Receiver, policy: CallbackPolicy, scheme: str = "http") -> str | None:
    client = CallbackClient(policy, 2.0)
    try:
        return (await client.post(f"{scheme}://hook.example:{receiver.port}/", {"X": "y"}, b"{}")).error
    finally:
        await client.close()


async def test_a_name_that_leads_inside_is_refused_without_a_connection(resolver: list[str]) -> None:
    async with open_receiver() as receiver:
        resolver.append("127.0.0.1")
        assert await post(receiver, CallbackPolicy()) == (
            "refused: The host is at an address of an inner or reserved network."
        )
        assert receiver.most_at_once == 0


async def test_a_name_is_resolved_once_and_the_checked_address_is_called(resolver: list[str]) -> None:
    """DNS rebinding: a second question would be answered with an address where nobody listens."""
    async with open_receiver() as receiver:
        resolver += ["127.0.0.1", "127.0.0.2"]
        assert await post(receiver, LOCAL) is None
        assert receiver.calls[0].headers["host"] == f"hook.example:{receiver.port}"
        assert resolver == ["127.0.0.2"], "asked once"


async def test_a_name_without_an_address_and_a_host_without_tls_are_told_apart(resolver: list[str]) -> None:
    async def talk_plainly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"no TLS here\r\n")
        writer.close()

    server = await asyncio.start_server(talk_plainly, "127.0.0.1", 0)
    receiver = Receiver(port=server.sockets[0].getsockname()[1])
    assert await post(receiver, LOCAL) == "the host name does not resolve"
    resolver.append("127.0.0.1")
    assert await post(receiver, LOCAL, "https") == "the TLS handshake failed"
    server.close()
    await server.wait_closed()
    assert await post(receiver, LOCAL) == "no connection"
