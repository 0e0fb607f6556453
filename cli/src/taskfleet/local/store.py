"""What local mode reads and writes in Redis/Valkey: heartbeats, the registry and wake-ups.

Small on purpose: the API's own adapter would bring the database with it into a process that must start at once.
"""

import contextlib
import json
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from taskfleet_core import wire
from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.events import Heartbeat, QueueRegistration
from taskfleet_core.scaling import DecisionReport

__all__ = ["LocalStore"]

TIMEOUT_SECONDS = 2.0
LISTEN_SECONDS = 5.0


class LocalStore:
    """Every call is bounded and raises StoreUnavailableError."""

    def __init__(self, url: str) -> None:
        self._url = "redis" + url.removeprefix("valkey") if url.startswith("valkey") else url
        self._redis = self._open(TIMEOUT_SECONDS)

    def _open(self, timeout_seconds: float) -> Redis:
        return Redis.from_url(
            self._url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    async def close(self) -> None:
        """Close connections."""
        await self._redis.aclose()

    async def fetch_heartbeats(self, workers: Iterable[tuple[str, str]]) -> dict[str, Heartbeat]:
        """The newest heartbeat of each of these workers (queue, host) that is alive, by host."""
        keys = [wire.worker_key(queue, host) for queue, host in workers]
        with _guarded("fetching heartbeats"):
            texts: list[Any] = await self._redis.mget(keys) if keys else []
            if not keys:
                await self._redis.ping()  # no worker is something else than no answer
            beats: list[Heartbeat] = [json.loads(text) for text in texts if text]
        return {beat["host"]: beat for beat in beats}

    async def register(self, registrations: Iterable[QueueRegistration]) -> None:
        """Announce queues."""
        with _guarded("registering queues"):
            rows: Any = {item["queueName"]: json.dumps(item) for item in registrations}
            if rows:
                async with self._redis.pipeline(transaction=True) as pipe:
                    pipe.hset(wire.REGISTRY_KEY, mapping=rows)
                    pipe.zrem(wire.REMOVED_QUEUES_KEY, *rows)
                    await pipe.execute()

    async def write_decisions(self, reports: Mapping[str, DecisionReport]) -> None:
        """Leave the last decisions, by queue, for who asks why."""
        with _guarded("writing decisions"):
            if reports:
                texts: Any = {queue: json.dumps(report) for queue, report in reports.items()}
                await self._redis.hset(wire.DECISIONS_KEY, mapping=texts)

    async def remove_others(self, names: Iterable[str]) -> None:
        """Take all other queues out of the registry, and say so: an empty registry alone tells the API nothing."""
        with _guarded("tidying the registry"):
            gone = {str(name) for name in await self._redis.hkeys(wire.REGISTRY_KEY)} - set(names)
            if gone:
                async with self._redis.pipeline(transaction=True) as pipe:
                    pipe.hdel(wire.REGISTRY_KEY, *gone)
                    pipe.hdel(wire.DECISIONS_KEY, *gone)
                    pipe.zadd(wire.REMOVED_QUEUES_KEY, dict.fromkeys(gone, time.time()))
                    await pipe.execute()

    async def listen_wakes(self) -> AsyncGenerator[str, None]:
        """Names of sleeping queues that got a task, as it happens."""
        redis = self._open(6 * LISTEN_SECONDS)
        try:
            with _guarded("listening for wake-ups"):
                async with redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(wire.WAKE_CHANNEL)
                    while True:
                        message = await channel.get_message(timeout=LISTEN_SECONDS)
                        if message is not None:
                            yield str(message["data"])
        finally:
            with contextlib.suppress(RedisError, OSError):
                await redis.aclose()


@contextlib.contextmanager
def _guarded(what: str) -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError, ValueError) as error:
        raise StoreUnavailableError(f"{what}: {type(error).__name__}") from error
