"""The operator's side of Redis/Valkey: heartbeats, fences, the queue registry, wake hints."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from taskfleet_core import wire
from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.events import Heartbeat, QueueRegistration
from taskfleet_core.scaling import DecisionReport
from taskfleet_core.store import guarded

__all__ = ["Store"]

STORE_TIMEOUT_SECONDS = 2.0
FENCE_TTL_SECONDS = 60
# Entries of the index are kept an hour. A clock that is wrong by less than this hides no worker: whether its heartbeat
# still exists, its key tells.
INDEX_SECONDS = 600.0
READ_AT_ONCE = 500
RELISTEN_SECONDS = 1.0
PING_SECONDS = 5.0
MAX_UNANSWERED_PINGS = 2

_log = structlog.get_logger()


class Store:
    """Commands have time limits. Failures are StoreUnavailableError, or None where unknown is an answer."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=STORE_TIMEOUT_SECONDS, socket_connect_timeout=STORE_TIMEOUT_SECONDS
        )
        # Its own connection: a subscriber waits for what may never come, a command must not.
        self._listener = Redis.from_url(url, socket_connect_timeout=STORE_TIMEOUT_SECONDS)
        self._unfence_later: set[str] = set()

    async def close(self) -> None:
        """Close connections."""
        await self._redis.aclose()
        await self._listener.aclose()

    async def fetch_heartbeats(self) -> dict[str, list[Heartbeat]] | None:
        """Heartbeats of all workers by queue; None when the store does not answer."""
        try:
            async with guarded("fetching heartbeats", STORE_TIMEOUT_SECONDS):
                values = await self._read_heartbeats()
        except StoreUnavailableError as error:
            _log.warning("store.unreadable", error=str(error))
            return None
        found: defaultdict[str, list[Heartbeat]] = defaultdict(list)
        for value in values:
            beat = _parse_heartbeat(value)
            if beat is not None:
                found[beat["queue"]].append(beat)
        if self._unfence_later:
            await self.unfence(())
        return dict(found)

    async def fence(self, pod_uids: Iterable[str]) -> None:
        """Have workers stop taking tasks. The fence ends by itself: an operator may die after fencing.

        Raises StoreUnavailableError: without a fence nobody may leave.
        """
        uids = list(pod_uids)
        self._unfence_later.difference_update(uids)
        async with guarded("fencing workers", STORE_TIMEOUT_SECONDS), self._redis.pipeline(transaction=False) as pipe:
            for uid in uids:
                pipe.set(wire.FENCE_KEY_PREFIX + uid, "1", ex=FENCE_TTL_SECONDS)
            await pipe.execute()

    async def unfence(self, pod_uids: Iterable[str]) -> None:
        """Let workers take tasks again. Where the store does not answer it is done as soon as it does: nothing that
        is due, a scale-up above all, waits for it."""
        self._unfence_later.update(pod_uids)
        keys = [wire.FENCE_KEY_PREFIX + uid for uid in self._unfence_later]
        if not keys:
            return
        try:
            async with guarded("lifting fences", STORE_TIMEOUT_SECONDS):
                await self._redis.delete(*keys)
        except StoreUnavailableError as error:
            _log.warning("store.fences_not_lifted", count=len(keys), error=str(error))
            return
        self._unfence_later.clear()

    async def register(self, registrations: Iterable[QueueRegistration], gone: Iterable[str] = ()) -> None:
        """Announce queues to the API, and take back those that are nobody's any more. Raises StoreUnavailableError."""
        items = [text for entry in registrations for text in (entry["queueName"], json.dumps(entry))]
        names = list(gone)
        async with guarded("registering queues", STORE_TIMEOUT_SECONDS), self._redis.pipeline(transaction=True) as pipe:
            if items:
                pipe.hset(wire.REGISTRY_KEY, items=items)
                pipe.zrem(wire.REMOVED_QUEUES_KEY, *items[::2])
            if names:
                pipe.hdel(wire.REGISTRY_KEY, *names)
                pipe.hdel(wire.DECISIONS_KEY, *names)
                # An empty registry alone tells the API nothing.
                pipe.zadd(wire.REMOVED_QUEUES_KEY, dict.fromkeys(names, time.time()))
            await pipe.execute()

    async def write_decisions(self, reports: Mapping[str, DecisionReport]) -> None:
        """Leave the last decisions, by queue, for who asks why. Raises StoreUnavailableError."""
        items = [text for queue, report in reports.items() for text in (queue, json.dumps(report))]
        async with guarded("writing decisions", STORE_TIMEOUT_SECONDS):
            await self._redis.hset(wire.DECISIONS_KEY, items=items)

    async def listen(self, on_wake: Callable[[str], None]) -> None:
        """Pass on wake hints for ever; reconnects by itself, also when the store falls silent."""
        while True:
            try:
                await self._follow_hints(on_wake)
            except (RedisError, OSError) as error:
                _log.warning("store.listen_failed", error=str(error) or type(error).__name__)
            await asyncio.sleep(RELISTEN_SECONDS)

    async def _follow_hints(self, on_wake: Callable[[str], None]) -> None:
        """Raises TimeoutError when nothing answers any more: a connection can be gone without a word."""
        unanswered = 0
        async with self._listener.pubsub() as pubsub:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):  # it connects, too
                await pubsub.subscribe(wire.WAKE_CHANNEL)
            while unanswered <= MAX_UNANSWERED_PINGS:
                message = await pubsub.get_message(timeout=PING_SECONDS)
                if message is None:
                    unanswered += 1
                    await pubsub.ping()
                    continue
                unanswered = 0
                if message["type"] == "message":
                    on_wake(message["data"].decode("utf-8", "replace"))
        raise TimeoutError("the store is silent")

    async def _read_heartbeats(self) -> list[Any]:
        """By the index of workers: a scan would walk over every task that the store holds, each second."""
        since = time.time() - INDEX_SECONDS
        keys: list[Any] = list(await self._redis.zrangebyscore(wire.WORKERS_INDEX_KEY, since, "+inf"))
        values: list[Any] = []
        for start in range(0, len(keys), READ_AT_ONCE):
            values += await self._redis.mget(keys[start : start + READ_AT_ONCE])
        return values


def _parse_heartbeat(value: Any) -> Heartbeat | None:
    """One heartbeat; what no reader understands (another version's, or nobody's) is none."""
    try:
        beat = json.loads(value) if value is not None else None
    except ValueError:
        return None
    if not isinstance(beat, dict) or beat.get("schema") != wire.SCHEMA_VERSION or not beat.get("queue"):
        return None
    found: Heartbeat = beat  # type: ignore[assignment] # by its schema
    return found
