"""The one pub/sub connection of a process: channels are counted by subscription, a lost connection is replaced.

Nothing is missed between subscribing and reading: Redis confirms the channel first, then the state is read; the same
after each reconnection. Commands leave through one queue, so that they reach Redis in the order they were decided.
"""

import asyncio
import contextlib
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field

import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from taskfleet_api.live.client import parse_event
from taskfleet_api.live.subscriptions import Subscription
from taskfleet_core.backoff import decide_backoff_seconds
from taskfleet_core.ending import end_tasks
from taskfleet_core.events import TaskEvent
from taskfleet_core.waiting import wait_for_event
from taskfleet_core.wire import UPDATES_CHANNEL_PREFIX, updates_channel

__all__ = ["Hub"]

log = structlog.get_logger()

COMMAND_CHANNELS = 500  # channels in one SUBSCRIBE
STATES_CHUNK = 500
MAX_UNANSWERED_PINGS = 3
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.2, 2.0

FetchEvents = Callable[[Sequence[str]], Awaitable[list[TaskEvent]]]


@dataclass(slots=True)
class _Channel:
    """Who listens to a task, and who waits for which of the SUBSCRIBEs that are under way."""

    subscriptions: set[Subscription] = field(default_factory=set)
    pending: deque[set[Subscription]] = field(default_factory=deque)


class Hub:
    """Feeds subscriptions from one connection; `run` is its only loop and ends only by cancellation."""

    def __init__(
        self, connect: Callable[[], AbstractConnection], fetch_events: FetchEvents, *, timeout_seconds: float
    ) -> None:
        self._connect = connect
        self._fetch_events = fetch_events
        self._timeout = timeout_seconds
        self._channels: dict[str, _Channel] = {}
        self._outbox: deque[tuple[str, str]] = deque()
        self._outgoing = asyncio.Event()
        self._confirmed: set[Subscription] = set()
        self._to_settle = asyncio.Event()
        self._attempted = asyncio.Event()
        self._heard = 0  # messages of the server so far
        self.connected = False

    @contextlib.asynccontextmanager
    async def subscribe(self, ids: Iterable[str]) -> AsyncIterator[Subscription]:
        """Follow `ids`; waits for Redis at most the time limit, and not at all while it is known to be away."""
        subscription = Subscription(ids)
        self._add(subscription)
        try:
            await wait_for_event(self._attempted, self._timeout)
            if self.connected:
                await subscription.wait_ready(self._timeout)
            yield subscription
        finally:
            self._remove(subscription)

    async def run(self) -> None:
        """Keep a connection for ever; each loss is told to every subscription."""
        failures = 0
        while True:
            try:
                await self._serve_one_connection()
            except Exception as error:  # whatever it was: a new connection is the remedy
                failures = 1 if self.connected else failures + 1
                log.warning("live_subscriptions_lost", error=type(error).__name__, failures=failures)
            finally:
                self._lose_connection()
            await asyncio.sleep(
                decide_backoff_seconds(failures, FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, random.random())
            )

    async def _serve_one_connection(self) -> None:
        connection = self._connect()
        try:
            async with asyncio.timeout(self._timeout * 2):
                await connection.connect()  # type: ignore[no-untyped-call]
            # With a limit of its own the connection would send inside `asyncio.wait_for`, see `taskfleet_core.ending`.
            connection.socket_timeout = None
            self._resubscribe_all()
            await _run_until_one_fails([self._read(connection), self._write(connection), self._settle()])
        finally:
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    def _resubscribe_all(self) -> None:
        self.connected = True
        self._attempted.set()
        for task_id, channel in self._channels.items():
            channel.pending.append(set(channel.subscriptions))
            for subscription in channel.subscriptions:
                subscription.unconfirmed += 1
            self._send("SUBSCRIBE", task_id)

    def _lose_connection(self) -> None:
        self.connected = False
        self._attempted.set()
        self._outbox.clear()
        self._confirmed.clear()
        for task_id in [task_id for task_id, channel in self._channels.items() if not channel.subscriptions]:
            del self._channels[task_id]
        for channel in self._channels.values():
            channel.pending.clear()
            for subscription in channel.subscriptions:
                subscription.unconfirmed = 0
                subscription.set_connected(False)

    def _add(self, subscription: Subscription) -> None:
        for task_id in subscription.ids:
            channel = self._channels.setdefault(task_id, _Channel())
            is_first = not channel.subscriptions
            channel.subscriptions.add(subscription)
            if not self.connected:
                continue
            if is_first:
                channel.pending.append(set())
                self._send("SUBSCRIBE", task_id)
            if channel.pending:
                channel.pending[-1].add(subscription)
                subscription.unconfirmed += 1
        if self.connected and not subscription.unconfirmed:
            self._to_be_settled(subscription)

    def _remove(self, subscription: Subscription) -> None:
        self._confirmed.discard(subscription)
        for task_id in subscription.ids:
            channel = self._channels[task_id]
            channel.subscriptions.discard(subscription)
            for waiting in channel.pending:
                waiting.discard(subscription)
            if channel.subscriptions:
                continue
            if self.connected:
                self._send("UNSUBSCRIBE", task_id)
            if not channel.pending:
                del self._channels[task_id]

    def _send(self, command: str, task_id: str) -> None:
        self._outbox.append((command, updates_channel(task_id)))
        self._outgoing.set()

    async def _write(self, connection: AbstractConnection) -> None:
        """Send what is in the outbox, in order, many channels in one command; and PING, to notice a silent server.

        Only unanswered PINGs count, not elapsed time: after a pause of this process the answers are still unread.
        """
        loop = asyncio.get_running_loop()
        ping_at, heard, unanswered = loop.time() + self._timeout, self._heard, 0
        while True:
            await wait_for_event(self._outgoing, ping_at - loop.time())
            self._outgoing.clear()
            async with asyncio.timeout(self._timeout):
                while self._outbox:
                    command, channels = self._take_commands()
                    await connection.send_command(command, *channels, check_health=False)
                if loop.time() < ping_at:
                    continue
                unanswered = unanswered + 1 if self._heard == heard else 0
                if unanswered >= MAX_UNANSWERED_PINGS:
                    raise TimeoutError("the server is silent")
                ping_at, heard = loop.time() + self._timeout, self._heard
                await connection.send_command("PING", check_health=False)

    def _take_commands(self) -> tuple[str, list[str]]:
        command, channel = self._outbox.popleft()
        channels = [channel]
        while self._outbox and self._outbox[0][0] == command and len(channels) < COMMAND_CHANNELS:
            channels.append(self._outbox.popleft()[1])
        return command, channels

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            message = await connection.read_response(timeout=math.inf)
            self._heard += 1
            kind, channel_name = message[0], message[1]
            if kind not in ("message", "subscribe"):
                continue
            task_id = channel_name.removeprefix(UPDATES_CHANNEL_PREFIX)
            channel = self._channels.get(task_id)
            if channel is None:
                continue
            if kind == "subscribe":
                self._confirm(task_id, channel)
            elif (event := parse_event(message[2])) is not None:
                for subscription in channel.subscriptions:
                    subscription.push(event)

    def _confirm(self, task_id: str, channel: _Channel) -> None:
        if not channel.pending:
            return
        for subscription in channel.pending.popleft():
            subscription.unconfirmed -= 1
            if not subscription.unconfirmed:
                self._to_be_settled(subscription)
        if not channel.subscriptions and not channel.pending:
            del self._channels[task_id]

    def _to_be_settled(self, subscription: Subscription) -> None:
        self._confirmed.add(subscription)
        self._to_settle.set()

    async def _settle(self) -> None:
        """Read the states of newly confirmed subscriptions, all that wait in one go, then call them connected."""
        while True:
            await self._to_settle.wait()
            self._to_settle.clear()
            subscriptions, self._confirmed = self._confirmed, set()
            ids = list({task_id for subscription in subscriptions for task_id in subscription.ids})
            for start in range(0, len(ids), STATES_CHUNK):
                for event in await self._fetch_events(ids[start : start + STATES_CHUNK]):
                    for subscription in subscriptions:
                        if event["id"] in subscription.ids:
                            subscription.push(event)
            for subscription in subscriptions:
                subscription.set_connected(True)


async def _run_until_one_fails(loops: Iterable[Coroutine[None, None, None]]) -> None:
    """Raises what the first of them fails with. No TaskGroup: it cancels each once, and waits for what missed that."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(tasks)
    for task in done:
        task.result()
