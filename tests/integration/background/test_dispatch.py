"""From commit to broker: at once when all is well, by the sweeper otherwise, once in either case."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from tests.integration.background.conftest import Servers, Store, migrate
from tests.support.brokers import REGISTER_SECONDS, RabbitMQ, Valkey
from tests.support.events import build_heartbeat, build_new_task
from tests.support.rabbit import fetch_ids
from tests.support.waiting import eventually

from taskfleet_core import wire


async def test_a_committed_task_reaches_the_broker_and_is_marked(servers: Servers, store: Store) -> None:
    await store.register("q")
    async with servers.replica() as replica:
        ids = await replica.submit([build_new_task() for _ in range(20)])
        await eventually(lambda: _are(replica.states(ids), {"queued"}))
        assert await store.queued("q") == 20


async def test_what_nobody_offered_is_published_after_the_grace(servers: Servers, store: Store) -> None:
    """A replica died between commit and publish."""
    await store.register("q")
    async with servers.replica(republish_grace_seconds=0.3) as replica:
        tasks = [build_new_task() for _ in range(5)]
        await replica.records.insert_tasks(tasks)
        await eventually(lambda: _are(replica.states([task.id for task in tasks]), {"queued"}))
        assert await store.queued("q") == 5


async def test_a_delayed_task_stays_in_the_database_until_it_is_due(servers: Servers, store: Store) -> None:
    await store.register("q")
    async with servers.replica() as replica:
        soon = datetime.now(UTC) + timedelta(seconds=0.4)
        (task_id,) = await replica.submit([build_new_task(eta=soon)])
        assert (await replica.get(task_id)).state == "scheduled"
        assert replica.background.dispatcher.waiting == 0
        record = await eventually(lambda: _in_state(replica.get(task_id), "queued"))
        assert record.published_at >= soon


async def test_what_is_too_old_to_start_expires_and_readers_are_told(servers: Servers, store: Store) -> None:
    await store.register("q")
    async with servers.replica() as replica:
        now = datetime.now(UTC)
        task = build_new_task(eta=now + timedelta(hours=1), expires_at=now + timedelta(seconds=0.3))
        async with replica.live.subscribe([str(task.id)]) as updates:
            await replica.submit([task])
            event = await eventually(lambda: updates.next(1))
            assert event["state"] == "expired"
        assert (await replica.get(task.id)).state == "expired"


async def test_a_queue_without_workers_is_woken_and_one_with_workers_is_not(servers: Servers, store: Store) -> None:
    await store.register("asleep")
    await store.register("awake")
    await store.beat(build_heartbeat("awake"))
    async with servers.replica() as replica, store.client.pubsub() as hints:
        await hints.subscribe(wire.WAKE_CHANNEL)
        await eventually(lambda: replica.background.monitor.has_workers("awake"))
        await replica.submit([build_new_task("awake")])
        await replica.submit([build_new_task("asleep")])
        hint = await eventually(lambda: hints.get_message(ignore_subscribe_messages=True))
        assert hint["data"] == "asleep"


async def test_more_than_fits_in_memory_is_left_to_the_sweeper(servers: Servers, store: Store) -> None:
    await store.register("q")
    async with servers.replica(dispatch_capacity=5, republish_grace_seconds=0.5) as replica:
        tasks = [build_new_task() for _ in range(50)]
        await replica.records.insert_tasks(tasks)
        assert replica.background.dispatcher.offer(tasks) == 5
        await eventually(lambda: _are(replica.states([task.id for task in tasks]), {"queued"}))
        assert await store.queued("q") == 50


@pytest.fixture
async def broken_broker(migrated_url: str, valkey: Valkey) -> AsyncIterator[tuple[Servers, Valkey, Store]]:
    valkey.flush()
    broker = Valkey()
    servers = Servers(migrated_url, valkey.url, broker.url)
    other = Store(broker.url)
    yield servers, broker, other
    await other.client.aclose()
    broker.stop()


async def test_a_broker_that_is_down_at_first_gets_each_task_once(
    broken_broker: tuple[Servers, Valkey, Store], store: Store
) -> None:
    servers, broker, other = broken_broker
    await store.register("q")
    async with servers.replica(republish_grace_seconds=0.5) as replica:
        ids = await replica.submit([build_new_task() for _ in range(50)])
        await eventually(lambda: replica.background.dispatcher.waiting == 0)  # handed to the sweeper
        late = await replica.submit([build_new_task() for _ in range(5)])
        assert await replica.states(ids) == {"pending"}
        broker.start()
        await eventually(lambda: _are(replica.states([*ids, *late]), {"queued"}))
        assert await other.queued("q") == 55


async def test_rabbitmq_gets_each_task_once_over_two_replicas(rabbit_servers: Servers, store: Store) -> None:
    await store.register("shared")
    async with rabbit_servers.replica() as first, rabbit_servers.replica() as second:
        await eventually(lambda: first.background.declarer.is_declared("shared"))
        ids = await first.submit([build_new_task("shared") for _ in range(300)])
        ids += await second.submit([build_new_task("shared") for _ in range(300)])
        unoffered = [build_new_task("shared") for _ in range(300)]
        await first.records.insert_tasks(unoffered)
        ids += [task.id for task in unoffered]
        await eventually(lambda: _are(first.states(ids), {"queued"}))
        assert Counter(await fetch_ids(rabbit_servers.broker_url, "shared")) == Counter(map(str, ids))


async def test_a_missing_queue_is_declared_and_its_messages_sent_again(
    rabbit_servers: Servers, rabbitmq43: RabbitMQ, store: Store
) -> None:
    await store.register("gone")
    async with rabbit_servers.replica() as replica:
        await eventually(lambda: replica.background.declarer.is_declared("gone"))
        rabbitmq43.management("DELETE", "/api/queues/%2F/gone")
        ids = await replica.submit([build_new_task("gone") for _ in range(10)])
        await eventually(lambda: _are(replica.states(ids), {"queued"}))
        assert Counter(await fetch_ids(rabbit_servers.broker_url, "gone")) == Counter(map(str, ids))


async def test_a_killed_rabbitmq_loses_nothing_that_was_accepted(
    rabbit_servers: Servers, rabbitmq43: RabbitMQ, store: Store
) -> None:
    """Killed while tasks are published: all are queued afterwards; copies are marked as possible copies."""
    await store.register("killed")
    async with rabbit_servers.replica(republish_grace_seconds=1.0) as replica:
        await eventually(lambda: replica.background.declarer.is_declared("killed"))
        await asyncio.sleep(REGISTER_SECONDS)
        ids = await replica.submit([build_new_task("killed") for _ in range(2000)])
        rabbitmq43.kill()
        ids += await replica.submit([build_new_task("killed") for _ in range(100)])
        rabbitmq43.start()
        await eventually(lambda: _are(replica.states(ids), {"queued"}), timeout_seconds=40)
        found = Counter(await fetch_ids(rabbit_servers.broker_url, "killed"))
        assert set(found) == set(map(str, ids))


async def test_a_database_that_is_away_while_marking_is_waited_for(rabbit_servers: Servers, store: Store) -> None:
    """Messages are confirmed while the records cannot be written: no second copy follows once they can."""
    await store.register("marking")
    async with rabbit_servers.replica(republish_grace_seconds=5.0) as replica:
        await eventually(lambda: replica.background.declarer.is_declared("marking"))
        tasks = [build_new_task("marking") for _ in range(20)]
        await replica.records.insert_tasks(tasks)
        async with _locked(replica.records, [task.id for task in tasks]):
            replica.background.dispatcher.offer(tasks)
            await eventually(lambda: replica.background.health()["dispatcher-marks"].consecutive_failures > 0, 15)
        await eventually(lambda: _are(replica.states([task.id for task in tasks]), {"queued"}))
        assert len(await fetch_ids(rabbit_servers.broker_url, "marking")) == 20


@contextlib.asynccontextmanager
async def _locked(records: object, ids: list[UUID]) -> AsyncIterator[None]:
    """Rows that another transaction holds, longer than any statement may wait."""
    import sqlalchemy as sa

    from taskfleet_api.records.tables import tasks

    database = records.database  # type: ignore[attr-defined]
    async with database.begin() as connection:
        await connection.execute(sa.select(tasks.c.id).where(tasks.c.id.in_(ids)).with_for_update())
        yield


async def _are(states: object, expected: set[str]) -> bool:
    return await states == expected  # type: ignore[misc]


async def _in_state(record: object, state: str) -> object:
    found = await record  # type: ignore[misc]
    return found if found.state == state else None


__all__ = ["migrate"]
