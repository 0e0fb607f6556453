"""Reads the numbers of all queues: one statistics request per broker and round, heartbeats in one pipeline.

The poll is the truth. A wake hint (a submission to a sleeping queue) only makes the next round come at once.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from taskfleet_core import wire
from taskfleet_core.events import Heartbeat, QueueRegistration
from taskfleet_core.statistics import QueueStatistics, StatisticsReader

__all__ = ["Numbers", "Poller", "Store"]

STORE_TIMEOUT_SECONDS = 2.0
FENCE_TTL_SECONDS = 60
SCAN_COUNT = 1000
MIN_WAKE_GAP_SECONDS = 0.1

_log = structlog.get_logger()


class Store:
    """The operator's side of Redis/Valkey: heartbeats, fences, the queue registry, wake hints."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=STORE_TIMEOUT_SECONDS, socket_connect_timeout=STORE_TIMEOUT_SECONDS
        )
        # Its own connection: a subscriber waits for ever, a command must not.
        self._listener = Redis.from_url(url, socket_connect_timeout=STORE_TIMEOUT_SECONDS)

    async def close(self) -> None:
        """Close connections."""
        await self._redis.aclose()
        await self._listener.aclose()

    async def fetch_heartbeats(self) -> dict[str, list[Heartbeat]] | None:
        """Heartbeats of all workers by queue; None when the store does not answer."""
        found: defaultdict[str, list[Heartbeat]] = defaultdict(list)
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                keys = [key async for key in self._redis.scan_iter(f"{wire.WORKER_KEY_PREFIX}*", count=SCAN_COUNT)]
                values = await self._redis.mget(keys) if keys else []
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("store.unreadable", error=str(error) or type(error).__name__)
            return None
        for value in values:
            if value is not None:
                beat: Heartbeat = json.loads(value)
                found[beat["queue"]].append(beat)
        return dict(found)

    async def fence(self, pod_uids: Iterable[str]) -> None:
        """Have workers stop taking tasks. The fence ends by itself: an operator may die after fencing."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for uid in pod_uids:
                pipe.set(wire.FENCE_KEY_PREFIX + uid, "1", ex=FENCE_TTL_SECONDS)
            await pipe.execute()

    async def unfence(self, pod_uids: Iterable[str]) -> None:
        """Let workers take tasks again."""
        keys = [wire.FENCE_KEY_PREFIX + uid for uid in pod_uids]
        if keys:
            await self._redis.delete(*keys)

    async def register(self, registrations: Iterable[QueueRegistration]) -> None:
        """Announce queues to the API."""
        items = [text for entry in registrations for text in (entry["queueName"], json.dumps(entry))]
        if items:
            await self._redis.hset(wire.REGISTRY_KEY, items=items)

    async def unregister(self, queue: str) -> None:
        """The queue is nobody's any more."""
        await self._redis.hdel(wire.REGISTRY_KEY, queue)

    async def listen(self, on_wake: Callable[[str], None]) -> None:
        """Pass on wake hints for ever; reconnects by itself."""
        while True:
            try:
                async with self._listener.pubsub() as pubsub:
                    await pubsub.subscribe(wire.WAKE_CHANNEL)
                    async for message in pubsub.listen():
                        if message["type"] == "message":
                            on_wake(message["data"].decode("utf-8", "replace"))
            except (RedisError, OSError) as error:
                _log.warning("store.listen_failed", error=str(error))
            await asyncio.sleep(1.0)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is known of one queue now."""

    statistics: QueueStatistics | None = None
    error: str | None = None
    heartbeats: tuple[Heartbeat, ...] | None = None


@dataclass
class Poller:
    """Rounds of reading. `queues` tells which queues there are by broker; `on_numbers` hears of queues to look at."""

    readers: dict[str, StatisticsReader]
    store: Store
    queues: Callable[[], dict[str, set[str]]]
    on_numbers: Callable[[set[str]], None]
    interval_seconds: float = 1.0
    polled_at: float | None = None  # monotonic, end of the last round in which every broker answered
    beat_at: float = 0.0  # monotonic, end of the last round at all
    round_seconds: float = 0.0
    _numbers: dict[str, Numbers] = field(default_factory=dict)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _hints: set[str] = field(default_factory=set)

    def get(self, queue: str) -> Numbers:
        """The newest numbers of a queue."""
        return self._numbers.get(queue, Numbers())

    def wake(self, queue: str) -> None:
        """A sleeping queue got its first task: look at once."""
        self._hints.add(queue)
        self._woken.set()

    async def run(self) -> None:
        """Poll for ever; a round that fails is a round without numbers."""
        while True:
            began = time.monotonic()
            self._woken.clear()
            hints, self._hints = self._hints, set()
            await self.poll()
            if hints:
                self.on_numbers(hints)
            self.beat_at = time.monotonic()
            self.round_seconds = self.beat_at - began
            await self._pause(max(MIN_WAKE_GAP_SECONDS, self.interval_seconds - self.round_seconds))

    async def poll(self) -> None:
        """One round."""
        fetches = [self._fetch(broker, names) for broker, names in self.queues().items()]
        beats, answers = await asyncio.gather(self.store.fetch_heartbeats(), asyncio.gather(*fetches))
        fresh: dict[str, Numbers] = {}
        for statistics, error in answers:
            for queue, figures in statistics.items():
                mine = None if beats is None else tuple(beats.get(queue, ()))
                problem = error or ("the broker does not know the queue" if figures is None else None)
                fresh[queue] = Numbers(figures, problem, mine)
        changed = {queue for queue, numbers in fresh.items() if _differs(numbers, self._numbers.get(queue))}
        self._numbers = fresh
        if all(error is None for _, error in answers):
            self.polled_at = time.monotonic()
        if changed:
            self.on_numbers(changed)

    async def _fetch(self, broker: str, names: set[str]) -> tuple[dict[str, QueueStatistics | None], str | None]:
        reader = self.readers.get(broker)
        if reader is None:
            return dict.fromkeys(names), f"broker {broker!r} is not known"
        try:
            async with asyncio.timeout(max(5.0, 5 * self.interval_seconds)):
                answer = await reader.fetch(sorted(names))
        except TimeoutError:
            return dict.fromkeys(names), "the broker does not answer"
        if names and all(figures is None for figures in answer.values()):
            return answer, "the broker tells nothing about any queue: is it up, and may the operator read it?"
        return answer, None

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
            await asyncio.sleep(MIN_WAKE_GAP_SECONDS)  # many hints at once are one round
        except TimeoutError:
            return


def _differs(new: Numbers, old: Numbers | None) -> bool:
    """Whether a queue is worth a look. Time stamps do not count, and an idle queue looks the same each second."""
    if old is None or (new.statistics is None) != (old.statistics is None) or new.error != old.error:
        return True
    if (new.heartbeats is None) != (old.heartbeats is None):
        return True
    return _essence(new) != _essence(old)


def _essence(numbers: Numbers) -> tuple[object, ...]:
    figures = numbers.statistics
    depth = (figures.ready, figures.unacknowledged, figures.published) if figures else None
    beats = tuple(
        sorted((beat["host"], beat["busy"], beat["consuming"], beat["completed"]) for beat in numbers.heartbeats or ())
    )
    return (depth, beats)
