"""Publishing to RabbitMQ: windows of pre-marshalled messages on one connection, confirmed by the broker.

One write and one future per window, none per message.
"""

import asyncio
import random
import struct
from collections.abc import Sequence

import structlog

from taskfleet_api.brokers.amqp_connection import PublishingSession
from taskfleet_api.brokers.amqp_frames import marshal_message
from taskfleet_api.brokers.confirms import Window
from taskfleet_api.brokers.messages import Message
from taskfleet_api.brokers.publishing import DEFAULT_WINDOW, FailureKind, PublishFailure
from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.amqp import connect_amqp
from taskfleet_core.backoff import decide_backoff_seconds
from taskfleet_core.ending import end_tasks
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.waiting import wait_for_event

__all__ = ["AmqpPublisher"]

MAX_IN_FLIGHT_BYTES = 32 * 1024 * 1024
MAX_WRITE_BYTES = 4 * 1024 * 1024
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.1, 2.0

_log = structlog.get_logger()
_NOT_CONNECTED = PublishFailure(FailureKind.CONNECTION, "not connected to the broker")


class AmqpPublisher:
    """See `Publisher`. `window` bounds the messages in flight over all callers."""

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        *,
        window: int = DEFAULT_WINDOW,
        timeout_seconds: float = 10.0,
        connect_timeout_seconds: float = 5.0,
    ) -> None:
        self._addresses = addresses
        self._window = window
        self._timeout_seconds = timeout_seconds
        self._connect_timeout_seconds = connect_timeout_seconds
        self._connection: PublishingSession | None = None
        self._connected = asyncio.Event()
        self._turn = asyncio.Lock()  # fair: a small call gets its turn between the windows of a large one
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._connection is not None and not self._connection.lost.done()

    @property
    def blocked(self) -> str | None:
        """The broker's reason for blocking publishers, or None."""
        return None if self._connection is None else self._connection.blocked

    async def start(self) -> None:
        """Begin to connect, and keep connected."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._keep_connected(), name="amqp-publisher")

    async def wait_connected(self, timeout_seconds: float) -> bool:
        """Wait until connected, for at most that long."""
        return await wait_for_event(self._connected, timeout_seconds)

    async def close(self) -> None:
        """Stop reconnecting and close; what is in flight fails."""
        if self._supervisor is not None:
            await end_tasks([self._supervisor])
            self._supervisor = None

    async def publish(self, messages: Sequence[Message]) -> list[PublishFailure | None]:
        """See `Publisher`. The time limit counts from the moment that a window was written."""
        results: list[PublishFailure | None] = [None] * len(messages)
        windows: list[Window] = []
        start = 0
        while start < len(messages):
            written = await self._take_turn(messages, results, start, windows)
            if isinstance(written, PublishFailure):
                results[start:] = [written] * (len(messages) - start)
                break
            start += written
        for window in windows:
            await asyncio.shield(window.done)
        return results

    async def _take_turn(
        self,
        messages: Sequence[Message],
        results: list[PublishFailure | None],
        start: int,
        windows: list[Window],
    ) -> int | PublishFailure:
        """Write one window when it is this caller's turn; waiting for the turn has the time limit too."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._turn.acquire()
        except TimeoutError:
            detail = _why_no_room(self._connection, self._timeout_seconds)
            return PublishFailure(FailureKind.TIMEOUT, detail)
        try:
            room = await self._wait_room(len(messages) - start)
            if isinstance(room, PublishFailure):
                return room
            return self._write_window(messages, results, start, room, windows)
        finally:
            self._turn.release()

    async def _wait_room(self, wanted: int) -> int | PublishFailure:
        """How many messages may be written now; waits for room, but not longer than the time limit."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        # Small windows cost as much as large ones: wait for a quarter of the window.
        enough = min(wanted, max(1, self._window // 4))
        while True:
            connection = self._connection
            if connection is None or connection.lost.done():
                return _NOT_CONNECTED
            room = self._window - connection.confirms.in_flight
            bytes_free = connection.confirms.in_flight_bytes < MAX_IN_FLIGHT_BYTES
            if room >= enough and bytes_free and connection.writable and connection.blocked is None:
                return room
            if not await connection.wait_change(max(0.0, deadline - loop.time())) and loop.time() >= deadline:
                return PublishFailure(FailureKind.TIMEOUT, _why_no_room(connection, self._timeout_seconds))

    def _write_window(
        self,
        messages: Sequence[Message],
        results: list[PublishFailure | None],
        start: int,
        room: int,
        windows: list[Window],
    ) -> int:
        """Write as many messages as there is room for, in one write; returns how many were dealt with."""
        connection = self._connection
        assert connection is not None
        parts: list[bytes] = []
        size = 0
        stop = min(len(messages), start + room)
        for index in range(start, stop):
            try:
                data = marshal_message(messages[index], connection.frame_max)
            except (ValueError, TypeError, struct.error) as error:
                results[index] = PublishFailure(FailureKind.NACKED, f"cannot be sent over AMQP: {error}")
                stop = index  # the window ends before it, the next begins after it
                break
            parts.append(data)
            size += len(data)
            if size >= MAX_WRITE_BYTES:
                stop = index + 1
                break
        if parts:
            loop = asyncio.get_running_loop()
            window = connection.confirms.track(messages[start:stop], results, start, size, loop.create_future())
            connection.write(b"".join(parts))
            limit = loop.call_later(self._timeout_seconds, self._expire, connection, window)
            window.done.add_done_callback(lambda _done: limit.cancel())
            windows.append(window)
        refused = stop < len(messages) and results[stop] is not None
        return stop - start + (1 if refused else 0)

    def _expire(self, connection: PublishingSession, window: Window) -> None:
        """The time limit of a window is over. A connection that brings no acks is dead unless the broker blocks."""
        detail = f"no confirm within {self._timeout_seconds:g} s"
        if connection.blocked is not None:
            detail += f", the broker blocks publishers: {connection.blocked}"
        connection.confirms.expire(window, PublishFailure(FailureKind.TIMEOUT, detail))
        if connection.blocked is None:
            connection.abort(detail)

    async def _keep_connected(self) -> None:
        attempt = 0
        try:
            while True:
                address = self._addresses[attempt % len(self._addresses)]
                attempt += 1
                try:
                    connection = await connect_amqp(PublishingSession, address, self._connect_timeout_seconds)
                except BrokerUnavailableError as error:
                    _log.warning("broker.connect_failed", broker=address.label, error=str(error))
                else:
                    await self._serve(connection)
                    attempt = 0
                pause = decide_backoff_seconds(attempt + 1, FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, random.random())
                await asyncio.sleep(pause)
        finally:
            if self._connection is not None:
                connection, self._connection = self._connection, None
                await connection.close()

    async def _serve(self, connection: PublishingSession) -> None:
        self._connection = connection
        self._connected.set()
        _log.info("broker.connected", broker=connection.label)
        try:
            reason = await asyncio.shield(connection.lost)
        finally:
            self._connected.clear()
        self._connection = None
        _log.warning("broker.connection_lost", broker=connection.label, reason=reason)


def _why_no_room(connection: PublishingSession | None, timeout_seconds: float) -> str:
    if connection is not None and connection.blocked is not None:
        return f"the broker blocks publishers: {connection.blocked}"
    return f"no room in the window for {timeout_seconds:g} s"
