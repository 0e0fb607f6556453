"""Replicas of the background services on real stores, with intervals short enough for tests."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
import redis.asyncio
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.events import build_registration

from taskfleet_api.background import Background, BackgroundOptions
from taskfleet_api.brokers import open_dead_letters, open_publisher, open_topology
from taskfleet_api.live import LiveStore
from taskfleet_api.records import NewTask, Records, TaskRecord, open_records
from taskfleet_core import wire
from taskfleet_core.events import Heartbeat, TaskEvent
from taskfleet_core.statistics import open_statistics

FAST = BackgroundOptions(
    republish_grace_seconds=2.0,
    publish_timeout_seconds=2.0,
    recorder_block_seconds=0.1,
    beat_interval_seconds=0.1,
    takeover_interval_seconds=0.1,
    reclaim_idle_seconds=0.3,
    reclaim_interval_seconds=0.1,
    sweep_interval_seconds=0.05,
    lease_interval_seconds=0.1,
    lease_quiet_seconds=1.0,
    unacked_interval_seconds=0.1,
    unacked_idle_seconds=0.5,
    directory_interval_seconds=0.05,
    catalog_interval_seconds=0.05,
    registry_forget_seconds=0.5,
    monitor_interval_seconds=0.1,
    schedule_interval_seconds=0.05,
    retention_interval_seconds=0.1,
    backoff_first_seconds=0.05,
    backoff_max_seconds=0.3,
)


@dataclass
class Replica:
    """The background services of one API process with what they stand on."""

    background: Background
    records: Records
    live: LiveStore

    async def submit(self, tasks: Sequence[NewTask]) -> list[UUID]:
        """What the HTTP layer does: commit, then offer."""
        await self.records.insert_tasks(tasks)
        self.background.dispatcher.offer(tasks)
        return [task.id for task in tasks]

    async def get(self, task_id: UUID) -> TaskRecord:
        record = await self.records.get(task_id)
        assert record is not None
        return record

    async def states(self, ids: Sequence[UUID]) -> set[str]:
        found = await self.records.get_many(ids)
        assert len(found) == len(set(ids))
        return {record.state.value for record in found.values()}


StartReplica = Callable[..., AbstractAsyncContextManager[Replica]]


@dataclass
class Servers:
    """Where the stores of a test are."""

    database_url: str
    redis_url: str
    broker_url: str
    management_url: str | None = None
    metrics_url: str | None = None

    @asynccontextmanager
    async def replica(self, *, stop: bool = True, **options: Any) -> AsyncIterator[Replica]:
        """A started replica; with `stop=False` it ends without the orderly stop of its dispatcher."""
        if self.management_url is not None:  # its metrics cost the broker and this machine more than Redis's lists
            options = {"monitor_interval_seconds": 0.5, **options}
        chosen = replace(FAST, **options)
        async with contextlib.AsyncExitStack() as stack:
            records = await open_records(
                self.database_url, timeout_seconds=3, republish_grace_seconds=chosen.republish_grace_seconds
            )
            stack.push_async_callback(records.close)
            live = LiveStore(self.redis_url, timeout_seconds=0.5)
            await live.start()
            stack.push_async_callback(live.close)
            publisher = open_publisher(self.broker_url, timeout_seconds=chosen.publish_timeout_seconds)
            await publisher.start()
            stack.push_async_callback(publisher.close)
            topology = open_topology(self.broker_url, self.management_url)
            stack.push_async_callback(topology.close)
            statistics = open_statistics(self.broker_url, self.management_url, self.metrics_url)
            stack.push_async_callback(statistics.close)
            background = Background(
                records=records,
                publisher=publisher,
                topology=topology,
                dead_letters=open_dead_letters(self.broker_url),
                statistics=statistics,
                live=live,
                broker_url=self.broker_url,
                options=chosen,
            )
            await background.start()
            stack.push_async_callback(background.stop, 3.0 if stop else 0.0)
            yield Replica(background, records, live)


class Store:
    """Redis as workers and operator use it."""

    def __init__(self, url: str) -> None:
        self.client = redis.asyncio.Redis.from_url(url, decode_responses=True)

    async def emit(self, *events: TaskEvent) -> None:
        """What a worker's script does: live state and stream entry together."""
        async with self.client.pipeline(transaction=True) as pipe:
            for event in events:
                text = json.dumps(event)
                if event["kind"] == "state":
                    pipe.hset(
                        wire.task_key(event["id"]),
                        mapping={wire.LIVE_POSITION: event["position"], wire.LIVE_EVENT: text},
                    )
                pipe.xadd(wire.EVENTS_STREAM, {wire.EVENT_FIELD: text})
            await pipe.execute()

    async def beat(self, heartbeat: Heartbeat, ttl_seconds: int = 60) -> None:
        """A worker's heartbeat that lives long enough for a test."""
        key = wire.worker_key(heartbeat["queue"], heartbeat["host"])
        await self.client.set(key, json.dumps(heartbeat), ex=ttl_seconds)
        await self.client.zadd(wire.WORKERS_INDEX_KEY, {key: heartbeat["at"]})

    async def register(self, queue: str, **more: Any) -> None:
        """What the operator does for a TaskQueue."""
        registration = build_registration(queue, **more)
        await self.client.hset(wire.REGISTRY_KEY, queue, json.dumps(registration))

    async def queued(self, queue: str) -> int:
        """Length of a queue on a Valkey broker, over kombu's priority lists."""
        keys = [queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9))]
        return sum([int(await self.client.llen(key)) for key in keys])


@pytest.fixture
async def migrated_url(sqlite_url: str) -> str:
    return await migrate(sqlite_url)


async def migrate(url: str) -> str:
    """Bring a fresh database to the newest schema."""
    records = await open_records(url)
    try:
        await records.migrate()
    finally:
        await records.close()
    return url


@pytest.fixture
def servers(migrated_url: str, valkey: Valkey) -> Servers:
    """SQLite, and Valkey both as live store and as broker."""
    valkey.flush()
    return Servers(migrated_url, valkey.url, valkey.url)


@pytest.fixture
async def rabbit_servers(postgresql_url: str, valkey: Valkey, rabbitmq43: RabbitMQ) -> Servers:
    """PostgreSQL, Valkey and RabbitMQ 4.3."""
    valkey.flush()
    url = await migrate(postgresql_url)
    return Servers(url, valkey.url, rabbitmq43.url, rabbitmq43.management_url, rabbitmq43.metrics_url)


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[Store]:
    opened = Store(valkey.url)
    yield opened
    await opened.client.aclose()
