"""A small AMQP 0-9-1 client session on asyncio and pamqp: log in, one channel, one call at a time, heartbeats.

For declaring queues, reading their depth, and as the base of the publisher. Knows nothing of reconnecting: once lost, a
session stays lost and says why.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, TypeVar, cast

from pamqp import commands, frame, header

from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.tls import build_tls_context

__all__ = [
    "CHANNEL",
    "FRAME_OVERHEAD_BYTES",
    "AmqpSession",
    "ChannelClosedError",
    "LoginRefusedError",
    "connect_amqp",
    "decode_method",
    "split_frames",
]

CHANNEL = 1
FRAME_MAX_BYTES = 131072
FRAME_OVERHEAD_BYTES = 8
HEARTBEAT_SECONDS = 10
_HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_METHOD_FRAME, _HEADER_FRAME = 1, 2
_CONNECTION_CLOSE, _CONNECTION_CLOSE_OK, _CHANNEL_CLOSE = (10, 50), (10, 51), (20, 40)
_BLOCKED, _UNBLOCKED = (10, 60), (10, 61)
_REFUSALS = frozenset({403, 530})  # wrong user or password; no such virtual host, or no right to it

_frame_head = struct.Struct(">BHI").unpack_from
_method_of = struct.Struct(">HH").unpack_from


class ChannelClosedError(Exception):
    """The broker refused a call and closed the channel; the next call opens it again."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code


class LoginRefusedError(BrokerUnavailableError):
    """The broker is there and refuses user, password or virtual host: waiting does not help."""


class AmqpSession(asyncio.Protocol):
    """Made by `connect_amqp`. `lost` resolves with the reason, once."""

    confirm_select = False

    def __init__(self, label: str) -> None:
        self._loop = asyncio.get_running_loop()
        self.label = label
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.frame_max = FRAME_MAX_BYTES
        self.server_version: tuple[int, ...] = ()
        self.blocked: str | None = None
        self.close_code: int | None = None  # of the connection, when it was the broker that closed it
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._reply: asyncio.Future[Any] | None = None
        self._channel_open = False
        self._sent_at = self._received_at = self._loop.time()
        self._beat: asyncio.TimerHandle | None = None
        self._handlers: dict[tuple[int, int], Callable[[bytes], None]] = {
            _CONNECTION_CLOSE: self._on_connection_close,
            _CONNECTION_CLOSE_OK: lambda _payload: self.abort("closed"),
            _CHANNEL_CLOSE: self._on_channel_close,
            _BLOCKED: self._on_blocked,
            _UNBLOCKED: self._on_unblocked,
        }

    # -- what the transport calls ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"connection closed by {self.label}" if exc is None else f"connection lost: {exc}")

    def data_received(self, data: bytes) -> None:
        self._received_at = self._loop.time()
        try:
            frames, self._rest = split_frames(self._rest + data if self._rest else data)
            for kind, payload in frames:
                if kind == _METHOD_FRAME:
                    self._on_method(_method_of(payload), payload)
                elif kind == _HEADER_FRAME:
                    self._on_header(payload)
        except Exception as error:  # whatever a peer sends must not leave callers waiting
            self.abort(f"protocol error: {error}")

    # -- what users call -------------------------------------------------------------------------------------------

    async def call(self, method: Any, timeout_seconds: float = 10.0) -> Any:
        """One method on the channel and its answer.

        Raises ChannelClosedError when refused, BrokerUnavailableError when the session is lost or time is over.
        """
        if not self._channel_open:
            await self._exchange(commands.Channel.Open(), CHANNEL, timeout_seconds)
            self._channel_open = True
        return await self._exchange(method, CHANNEL, timeout_seconds)

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket; never waits."""
        if self._transport is not None and not self.lost.done():
            self._sent_at = self._loop.time()
            self._transport.write(data)

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

    # -- for subclasses --------------------------------------------------------------------------------------------

    def _on_method(self, method: tuple[int, ...], payload: bytes) -> None:
        handler = self._handlers.get(cast(tuple[int, int], method))
        if handler is not None:
            handler(payload)
        elif self._reply is not None and not self._reply.done():
            self._reply.set_result(decode_method(payload))

    def _on_header(self, payload: bytes) -> None:
        """Content header of a message that the broker sends."""

    def _on_change(self) -> None:
        """Unblocked, or lost."""

    def _on_end(self, reason: str) -> None:
        """The session is lost."""

    # -- handshake -------------------------------------------------------------------------------------------------

    async def shake_hands(self, address: BrokerAddress) -> None:
        """From the protocol header to an open channel. Raises BrokerUnavailableError when refused."""
        self.write(header.ProtocolHeader().marshal())
        start = await self._answer(None)
        self.server_version = _parse_version(start.server_properties.get("version", ""))
        capabilities = {
            "publisher_confirms": True,
            "basic.nack": True,
            "connection.blocked": True,
            "authentication_failure_close": True,
        }
        properties = {"product": "taskfleet", "connection_name": "taskfleet", "capabilities": capabilities}
        login = f"\0{address.user}\0{address.password}"
        tune = await self._exchange(commands.Connection.StartOk(properties, "PLAIN", login, "en_US"), 0)
        self.frame_max = min(tune.frame_max or FRAME_MAX_BYTES, FRAME_MAX_BYTES)
        beat = min(tune.heartbeat or HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)
        self.write(frame.marshal(commands.Connection.TuneOk(tune.channel_max, self.frame_max, beat), 0))
        await self._exchange(commands.Connection.Open(address.virtual_host), 0)
        if self.confirm_select:
            await self.call(commands.Confirm.Select())
        self._keep_beating(beat)

    async def _exchange(self, method: Any, channel: int, timeout_seconds: float | None = None) -> Any:
        self.write(frame.marshal(method, channel))
        return await self._answer(timeout_seconds)

    async def _answer(self, timeout_seconds: float | None) -> Any:
        reply = self._reply = self._loop.create_future()
        try:
            await asyncio.wait((reply, self.lost), timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.abort("cancelled")  # the answer would be taken for that of the next call
            raise
        if reply.done():
            return reply.result()
        if not self.lost.done():
            self.abort(f"{self.label} did not answer within {timeout_seconds} s")  # answers would no longer match
        raise BrokerUnavailableError(f"{self.label}: {self.lost.result()}")

    # -- frames ----------------------------------------------------------------------------------------------------

    def _on_connection_close(self, payload: bytes) -> None:
        method = decode_method(payload)
        self.write(frame.marshal(commands.Connection.CloseOk(), 0))
        self.close_code = method.reply_code
        self._end(f"{method.reply_code} {method.reply_text}")
        if self._transport is not None:
            self._transport.close()

    def _on_channel_close(self, payload: bytes) -> None:
        method = decode_method(payload)
        if self._reply is None or self._reply.done():
            self.abort(f"channel closed: {method.reply_code} {method.reply_text}")
            return
        self.write(frame.marshal(commands.Channel.CloseOk(), CHANNEL))
        self._channel_open = False
        self._reply.set_exception(ChannelClosedError(method.reply_code, method.reply_text))

    def _on_blocked(self, payload: bytes) -> None:
        self.blocked = decode_method(payload).reason or "blocked"

    def _on_unblocked(self, _payload: bytes) -> None:
        self.blocked = None
        self._on_change()

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
            self.write(_HEARTBEAT_FRAME)
        self._beat = self._loop.call_later(interval_seconds / 2, self._keep_beating, interval_seconds)

    def _end(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        if self._beat is not None:
            self._beat.cancel()
        self._on_end(reason)
        self._on_change()


Session = TypeVar("Session", bound=AmqpSession)


async def connect_amqp(factory: Callable[[str], Session], address: BrokerAddress, timeout_seconds: float) -> Session:
    """Connect and log in. Raises BrokerUnavailableError (LoginRefusedError), within the time limit."""
    loop = asyncio.get_running_loop()
    session: Session | None = None
    try:
        tls = build_tls_context(address) if address.tls else None
        async with asyncio.timeout(timeout_seconds):
            _, session = await loop.create_connection(
                lambda: factory(address.label), address.host, address.port, ssl=tls
            )
            await session.shake_hands(address)
    except BaseException as error:
        if session is not None:
            session.abort("handshake failed")
        if isinstance(error, TimeoutError):
            raise BrokerUnavailableError(f"{address.label} did not answer within {timeout_seconds} s") from error
        if isinstance(error, OSError):
            raise BrokerUnavailableError(f"cannot connect to {address.label}: {error}") from error
        if session is not None and session.close_code in _REFUSALS and isinstance(error, BrokerUnavailableError):
            raise LoginRefusedError(str(error)) from error
        raise
    return session


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """(type, payload) of each complete frame, and the bytes of the incomplete one at the end.

    Raises ValueError when the peer doesn't speak AMQP frames.
    """
    frames = []
    at, size = 0, len(data)
    while size - at >= FRAME_OVERHEAD_BYTES:
        kind, _channel, length = _frame_head(data, at)
        end = at + 7 + length
        if kind not in (1, 2, 3, 8):
            raise ValueError(f"not an AMQP frame: {data[at : at + 8]!r}")
        if end >= size:
            break
        if data[end] != 0xCE:
            raise ValueError("frame without its end mark")
        frames.append((kind, data[at + 7 : end]))
        at = end + 1
    return frames, data[at:]


def decode_method(payload: bytes) -> Any:
    """The method of a method frame's payload, by pamqp."""
    return frame.unmarshal(struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce")[2]


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-")[0].split(".") if part.isdigit())
