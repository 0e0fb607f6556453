"""Schedules tick exactly once, old records go, and the directory knows queues whatever happens to Redis."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.integration.background.conftest import Replica, Servers, Store
from tests.support.brokers import Valkey
from tests.support.events import build_heartbeat, build_new_task, build_registration, build_state_event
from tests.support.waiting import eventually

from taskfleet_api.background import ScheduleRule, ScheduleSpec, build_spec_json, compute_next_tick
from taskfleet_api.records import ScheduleRecord, TaskFilter, TaskRecord
from taskfleet_core import wire
from taskfleet_core.states import TaskState


def build_schedule(rule: ScheduleRule, next_at: datetime | None, queue: str = "q") -> ScheduleRecord:
    now = datetime.now(UTC)
    spec = build_spec_json(ScheduleSpec(rule=rule, args_json='["tick"]'))
    return ScheduleRecord("s1", queue, "demo.add", spec, False, next_at, now, now)


def every(seconds: float, anchor: datetime, catch_up: str = "last") -> ScheduleRule:
    return ScheduleRule(cron=None, interval_seconds=seconds, catch_up=catch_up, anchor=anchor)  # type: ignore[arg-type]


async def fetch_all(replica: Replica) -> list[TaskRecord]:
    return (await replica.records.list_tasks(TaskFilter(), limit=500)).items


async def test_each_tick_is_submitted_once_by_two_replicas(servers: Servers, store: Store) -> None:
    await store.register("q")
    anchor = datetime.now(UTC)
    rule = every(1, anchor)
    async with servers.replica() as first, servers.replica():
        await first.records.put_schedule(build_schedule(rule, compute_next_tick(rule, anchor)))
        await eventually(lambda: _at_least(fetch_all(first), 3), timeout_seconds=15)
        schedule = await first.records.get_schedule("s1")
        assert schedule is not None
        assert schedule.last_tick_at is not None
        tasks = await fetch_all(first)
        assert {task.origin for task in tasks} == {"schedule"}
        assert {task.args for task in tasks} == {'["tick"]'}
        assert len(tasks) <= (schedule.last_tick_at - anchor) / timedelta(seconds=1) + 1.5
        await eventually(lambda: _queued(store, len(tasks)))


@pytest.mark.parametrize(("catch_up", "expected"), [("skip", 0), ("last", 1), ("all", 5)])
async def test_missed_ticks_are_made_up_for_as_the_rule_says(
    servers: Servers, store: Store, catch_up: str, expected: int
) -> None:
    """Nobody was there for five hourly ticks; the last of them is half an hour old."""
    await store.register("q")
    first_tick = datetime.now(UTC) - timedelta(hours=4, minutes=30)
    async with servers.replica() as first, servers.replica():
        schedule = build_schedule(every(3600, first_tick, catch_up), first_tick)
        await first.records.put_schedule(schedule)
        await eventually(lambda: _moved_on(first))
        assert len(await fetch_all(first)) == expected


async def test_a_broken_schedule_stops_and_does_not_hold_up_the_others(servers: Servers, store: Store) -> None:
    await store.register("q")
    anchor = datetime.now(UTC) - timedelta(seconds=1)
    async with servers.replica() as replica:
        good = build_schedule(every(3600, anchor), anchor)
        await replica.records.put_schedule(replace(good, id="a-broken", spec_json="{}"))
        await replica.records.put_schedule(good)
        assert len(await eventually(lambda: fetch_all(replica))) == 1
        broken = await replica.records.get_schedule("a-broken")
        assert broken is not None
        assert broken.next_at is None


async def test_a_schedule_for_a_queue_on_another_broker_submits_nothing(servers: Servers, store: Store) -> None:
    await store.register("far", broker="elsewhere")
    anchor = datetime.now(UTC) - timedelta(seconds=1)
    async with servers.replica() as replica:
        await replica.records.put_schedule(build_schedule(every(3600, anchor), anchor, queue="far"))
        await eventually(lambda: _moved_on(replica))
        assert await fetch_all(replica) == []


async def test_only_old_finished_records_are_deleted(servers: Servers, store: Store) -> None:
    async with servers.replica(retention_batch=3) as replica:
        old = datetime.now(UTC) - timedelta(days=31)
        ids = await replica.submit([build_new_task(created_at=old) for _ in range(10)])
        ids += await replica.submit([build_new_task() for _ in range(2)])
        ended = [build_state_event(TaskState.SUCCEEDED, item, at=old.timestamp()) for item in ids[:10]]
        await replica.records.apply_events(ended)
        await replica.records.apply_events([build_state_event(TaskState.SUCCEEDED, ids[10])])
        await eventually(lambda: _has_size(replica.records.get_many(ids), 2))
        assert set(await replica.records.get_many(ids)) == set(ids[10:])


async def test_a_queue_on_an_unknown_broker_is_scale_only(servers: Servers, store: Store) -> None:
    await store.register("near")
    await store.register("far", broker="elsewhere")
    async with servers.replica() as replica:
        directory = replica.background.directory
        near, far = directory.get("near"), directory.get("far")
        assert near is not None
        assert far is not None
        assert (near.scale_only, far.scale_only) == (False, True)
        await eventually(lambda: "near" in replica.background.monitor.all())
        assert "far" not in replica.background.monitor.all()


async def test_announced_task_names_are_known_and_survive_redis(servers: Servers, store: Store, valkey: Valkey) -> None:
    await store.register("q")
    async with servers.replica() as replica:
        directory = replica.background.directory
        assert directory.knows_task("q", "demo.add") is None
        await store.client.hset(wire.CATALOG_KEY_PREFIX + "q", "demo.add", json.dumps({"type": "object"}))
        await eventually(lambda: directory.knows_task("q", "demo.add"))
        assert directory.knows_task("q", "demo.sub") is None
        await store.beat(build_heartbeat("q"))
        await eventually(lambda: directory.knows_task("q", "demo.sub") is False)
        await eventually(replica.records.load_catalogs)
    valkey.flush()
    async with servers.replica() as replica:
        known = replica.background.directory.get("q")
        assert known is not None
        assert known.catalog == {"demo.add": {"type": "object"}}


async def test_the_last_queue_is_forgotten_when_who_announced_it_takes_it_back(servers: Servers, store: Store) -> None:
    await store.register("last")
    async with servers.replica() as replica:
        directory = replica.background.directory
        assert directory.names() == ["last"]
        await replica.live.unregister("last")
        await eventually(lambda: directory.names() == [])
        assert await replica.records.load_queues() == []
        await directory.register(build_registration("last"))
        await directory.refresh()
        assert directory.names() == ["last"]


async def test_an_emptied_redis_takes_no_queue_away_but_a_living_registry_does(
    servers: Servers, store: Store, valkey: Valkey
) -> None:
    await store.register("a")
    await store.register("b")
    async with servers.replica() as replica:
        directory = replica.background.directory
        assert directory.names() == ["a", "b"]
        valkey.flush()
        await directory.refresh()
        assert directory.names() == ["a", "b"]
        await store.register("b")
        await eventually(lambda: directory.names() == ["b"])
        assert [entry["queueName"] for entry in await replica.records.load_queues()] == ["b"]


async def test_a_queue_registered_through_the_process_is_everywhere(servers: Servers) -> None:
    async with servers.replica() as first, servers.replica() as second:
        await first.background.directory.register(build_registration("own"))
        assert first.background.directory.names() == ["own"]
        await eventually(lambda: second.background.directory.names() == ["own"])
        assert [entry["queueName"] for entry in await first.records.load_queues()] == ["own"]


async def test_what_cannot_be_read_is_unknown_and_not_zero(servers: Servers, store: Store) -> None:
    broker = Valkey()
    broker.start()
    parted = Servers(servers.database_url, servers.redis_url, broker.url)
    try:
        await store.register("q")
        async with parted.replica() as replica:
            monitor = replica.background.monitor
            await eventually(lambda: monitor.get("q").ready == 0)
            assert monitor.has_workers("q") is False
            broker.kill()
            await eventually(lambda: monitor.get("q").ready is None)
            assert monitor.quiet_seconds("q") is None
            broker.start()
            await eventually(lambda: monitor.get("q").ready == 0)
    finally:
        broker.stop()


async def test_every_loop_is_healthy_when_all_stores_answer(rabbit_servers: Servers) -> None:
    async with rabbit_servers.replica() as replica:
        health = replica.background.health
        await eventually(lambda: all(h.healthy and not h.consecutive_failures for h in health().values()))
        await eventually(
            lambda: all(h.seconds_since_success is not None for n, h in health().items() if n not in _SLOW_OR_ENDLESS),
            timeout_seconds=15,
        )


_SLOW_OR_ENDLESS = {"dead-letters"}


async def _at_least(items: object, count: int) -> bool:
    return len(await items) >= count  # type: ignore[misc]


async def _has_size(items: object, count: int) -> bool:
    return len(await items) == count  # type: ignore[misc]


async def _queued(store: Store, count: int) -> bool:
    return await store.queued("q") >= count


async def _moved_on(replica: Replica) -> bool:
    schedule = await replica.records.get_schedule("s1")
    return schedule is not None and schedule.next_at is not None and schedule.next_at > datetime.now(UTC)
