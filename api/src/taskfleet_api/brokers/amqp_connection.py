"""One AMQP connection with one channel in confirm mode, as an asyncio protocol.

Knows nothing of reconnecting: once lost, it stays lost and says why.
"""

import asyncio
import ssl
import struct
from collections.abc import Callable
from typing import Any, cast

from pamqp import commands, frame, header

from taskfleet_api.brokers.amqp_frames import CHANNEL, HEARTBEAT, split_frames
from taskfleet_api.brokers.confirms import NACKED, Confirms
from taskfleet_api.brokers.publishing import FailureKind, PublishFailure
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.statistics.addresses import BrokerAddress

__all__ = ["AmqpConnection", "connect_amqp"]

HEARTBEAT_SECONDS = 10
FRAME_MAX_BYTES = 131072
_METHOD_FRAME, _HEADER_FRAME = 1, 2
_ACK, _NACK, _RETURN = (60, 80), (60, 120), (60, 50)
_CONNECTION_CLOSE, _CHANNEL_CLOSE = (10, 50), (20, 40)
_BLOCKED, _UNBLOCKED = (10, 60), (10, 61)

_method_of = struct.Struct(">HH").unpack_from
_tag_and_bits = struct.Struct(">QB").unpack_from


class AmqpConnection(asyncio.Protocol):
    """Made by `connect_amqp`. `lost` resolves with the reason, once."""

    def __init__(self, label: str) -> None:
        self._loop = asyncio.get_running_loop()
        self.label = label
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.frame_max = FRAME_MAX_BYTES
        self.blocked: str | None = None
        self.writable = True
        self.confirms = Confirms(self._wake)
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._reply: asyncio.Future[Any] | None = None
        self._return_detail: str | None = None
        self._room: asyncio.Future[None] | None = None
        self._sent_at = self._received_at = self._loop.time()
        self._beat: asyncio.TimerHandle | None = None
        self._handlers: dict[tuple[int, int], Callable[[bytes], None]] = {
            _RETURN: self._on_return,
            _CONNECTION_CLOSE: self._on_connection_close,
            _CHANNEL_CLOSE: self._on_channel_close,
            _BLOCKED: self._on_blocked,
            _UNBLOCKED: self._on_unblocked,
        }

    # -- what the transport calls ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"connection closed by {self.label}" if exc is None else f"connection lost: {exc}")

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._received_at = self._loop.time()
        try:
            frames, self._rest = split_frames(self._rest + data if self._rest else data)
            for kind, _channel, payload in frames:
                if kind == _METHOD_FRAME:
                    self._on_method(payload)
                elif kind == _HEADER_FRAME:
                    self._on_return_header(payload)
        except Exception as error:  # whatever a peer sends must not leave callers waiting
            self.abort(f"protocol error: {error}")

    # -- what the publisher calls ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket; never waits."""
        if self._transport is not None and not self.lost.done():
            self._sent_at = self._loop.time()
            self._transport.write(data)

    async def wait_change(self, timeout_seconds: float) -> bool:
        """Until something was settled, unblocked, writable or lost; False when time is over first."""
        if self._room is None or self._room.done():
            self._room = self._loop.create_future()
        done, _ = await asyncio.wait((self._room,), timeout=timeout_seconds)
        return bool(done)

    async def close(self, timeout_seconds: float = 1.0) -> None:
        """Say goodbye, but not for long."""
        if not self.lost.done():
            self.write(frame.marshal(commands.Connection.Close(200, "", 0, 0), 0))
            await asyncio.wait((self.lost,), timeout=timeout_seconds)
        self.abort("closed")

    def abort(self, reason: str) -> None:
        """Drop the connection with whatever is still in its buffers."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    # -- handshake -------------------------------------------------------------------------------------------------

    async def shake_hands(self, address: BrokerAddress) -> None:
        """From the protocol header to a channel in confirm mode. Raises BrokerUnavailableError when refused."""
        self.write(header.ProtocolHeader().marshal())
        await self._expect()
        capabilities = {
            "publisher_confirms": True,
            "basic.nack": True,
            "connection.blocked": True,
            "authentication_failure_close": True,
        }
        properties = {"product": "taskfleet-api", "connection_name": "taskfleet-api", "capabilities": capabilities}
        login = f"\0{address.user}\0{address.password}"
        tune = await self._call(commands.Connection.StartOk(properties, "PLAIN", login, "en_US"), 0)
        self.frame_max = min(tune.frame_max or FRAME_MAX_BYTES, FRAME_MAX_BYTES)
        beat = min(tune.heartbeat or HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)
        self.write(frame.marshal(commands.Connection.TuneOk(tune.channel_max, self.frame_max, beat), 0))
        await self._call(commands.Connection.Open(address.virtual_host), 0)
        await self._call(commands.Channel.Open(), CHANNEL)
        await self._call(commands.Confirm.Select(), CHANNEL)
        self._keep_beating(beat)

    async def _call(self, method: Any, channel: int) -> Any:
        self.write(frame.marshal(method, channel))
        return await self._expect()

    async def _expect(self) -> Any:
        self._reply = self._loop.create_future()
        await asyncio.wait((self._reply, self.lost), return_when=asyncio.FIRST_COMPLETED)
        if not self._reply.done():
            raise BrokerUnavailableError(f"{self.label} refused the connection: {self.lost.result()}")
        return self._reply.result()

    # -- frames ----------------------------------------------------------------------------------------------------

    def _on_method(self, payload: bytes) -> None:
        method = _method_of(payload)
        if method == _ACK:
            tag, bits = _tag_and_bits(payload, 4)
            self.confirms.settle(tag, bool(bits & 1))
        elif method == _NACK:
            tag, bits = _tag_and_bits(payload, 4)
            self.confirms.settle(tag, bool(bits & 1), NACKED)
        elif (handler := self._handlers.get(method)) is not None:
            handler(payload)
        elif self._reply is not None and not self._reply.done():
            self._reply.set_result(_decode_method(payload))

    def _on_return(self, payload: bytes) -> None:
        method = _decode_method(payload)
        self._return_detail = f"{method.reply_text} (queue {method.routing_key!r})"

    def _on_return_header(self, payload: bytes) -> None:
        content = header.ContentHeader()
        content.unmarshal(payload)
        if self._return_detail is not None:
            self.confirms.returned(content.properties.message_id or "", self._return_detail)
            self._return_detail = None

    def _on_connection_close(self, payload: bytes) -> None:
        method = _decode_method(payload)
        self.write(frame.marshal(commands.Connection.CloseOk(), 0))
        self._end(f"{method.reply_code} {method.reply_text}")
        if self._transport is not None:
            self._transport.close()

    def _on_channel_close(self, payload: bytes) -> None:
        method = _decode_method(payload)
        self.abort(f"channel closed: {method.reply_code} {method.reply_text}")

    def _on_blocked(self, payload: bytes) -> None:
        self.blocked = _decode_method(payload).reason or "blocked"

    def _on_unblocked(self, _payload: bytes) -> None:
        self.blocked = None
        self._wake()

    # -- life ------------------------------------------------------------------------------------------------------

    def _keep_beating(self, interval_seconds: float) -> None:
        """Send a heartbeat when nothing else was sent; give the peer up when it is silent for two intervals."""
        if self.lost.done():
            return
        now = self._loop.time()
        if now - self._received_at > 2 * interval_seconds:
            self.abort(f"no heartbeat from {self.label} for {2 * interval_seconds} s")
            return
        if now - self._sent_at >= interval_seconds / 2:
            self.write(HEARTBEAT)
        self._beat = self._loop.call_later(interval_seconds / 2, self._keep_beating, interval_seconds)

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _end(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        if self._beat is not None:
            self._beat.cancel()
        self.confirms.fail_all(PublishFailure(FailureKind.CONNECTION, reason))
        self._wake()


def _decode_method(payload: bytes) -> Any:
    size = len(payload)
    return frame.unmarshal(struct.pack(">BHI", 1, 0, size) + payload + b"\xce")[2]


async def connect_amqp(address: BrokerAddress, timeout_seconds: float) -> AmqpConnection:
    """Connect, log in and open the channel. Raises BrokerUnavailableError, within the time limit."""
    loop = asyncio.get_running_loop()
    connection: AmqpConnection | None = None
    try:
        async with asyncio.timeout(timeout_seconds):
            _, connection = await loop.create_connection(
                lambda: AmqpConnection(address.label), address.host, address.port, ssl=_tls_context(address)
            )
            await connection.shake_hands(address)
    except BaseException as error:
        if connection is not None:
            connection.abort("handshake failed")
        if isinstance(error, TimeoutError):
            raise BrokerUnavailableError(f"{address.label} did not answer within {timeout_seconds} s") from error
        if isinstance(error, OSError):
            raise BrokerUnavailableError(f"cannot connect to {address.label}: {error}") from error
        raise
    return connection


def _tls_context(address: BrokerAddress) -> ssl.SSLContext | None:
    if not address.tls:
        return None
    options = address.options
    context = ssl.create_default_context(cafile=options.get("cacertfile") or options.get("cafile"))
    if options.get("verify") == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "certfile" in options:
        context.load_cert_chain(options["certfile"], options.get("keyfile"))
    return context
