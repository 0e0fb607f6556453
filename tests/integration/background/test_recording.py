"""Events become records: idempotent, shared by replicas, safe over the death of a replica and the loss of Redis."""

import sys
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

from tests.integration.background.conftest import FAST, Replica, Servers, Store
from tests.support.brokers import Valkey
from tests.support.events import build_new_task, build_progress_event, build_state_event
from tests.support.waiting import eventually

from taskfleet_api.background.recorder import Recorder
from taskfleet_api.background.replicas import DEAD_LOOKS, Replicas, get_process
from taskfleet_api.background.tallies import Tallies
from taskfleet_api.live import StreamEntry
from taskfleet_api.telemetry import REGISTRY
from taskfleet_core import wire
from taskfleet_core.states import TaskState


async def test_events_become_records_and_leave_the_stream(servers: Servers, store: Store) -> None:
    async with servers.replica() as replica:
        (task_id,) = await replica.submit([build_new_task()])
        await store.emit(
            build_state_event(TaskState.RUNNING, task_id),
            build_progress_event(task_id, 1, {"done": 1}),
            build_state_event(TaskState.SUCCEEDED, task_id, result=42, runtime_seconds=0.1),
        )
        await eventually(lambda: _is(replica.states([task_id]), {"succeeded"}))
        record = await replica.get(task_id)
        assert (record.result, record.worker, record.progress_count) == ("42", "w1", 1)
        await eventually(lambda: _is(replica.live.fetch_stream_length(), 0))


async def test_events_in_any_order_and_twice_change_nothing_more(servers: Servers, store: Store) -> None:
    async with servers.replica() as replica:
        ids = await replica.submit([build_new_task() for _ in range(50)])
        ended = [build_state_event(TaskState.SUCCEEDED, task_id, result=1) for task_id in ids]
        running = [build_state_event(TaskState.RUNNING, task_id) for task_id in ids]
        late = [build_state_event(TaskState.FAILED, task_id) for task_id in ids]
        await store.emit(*ended, *running, *ended, *late)
        await eventually(lambda: _is(replica.live.fetch_stream_length(), 0))
        assert await replica.states(ids) == {"succeeded"}


async def test_what_a_dead_replica_had_read_is_recorded_by_another(servers: Servers, store: Store) -> None:
    """A replica dies after reading, before or after its commit: both are the same to the next one."""
    async with servers.replica() as replica:
        ids = await replica.submit([build_new_task() for _ in range(20)])
        await eventually(lambda: _is(replica.states(ids), {"queued"}))
    async with servers.replica() as replica:
        await replica.background._supervisor.stop("recorder-0", "recorder-1", "recorder-reclaim")
        events = [build_state_event(TaskState.SUCCEEDED, task_id) for task_id in ids]
        await store.emit(*events)
        entries = await eventually(lambda: replica.live.read_events("dead", limit=100, block_seconds=0.1))
        assert len(entries) == 20
        await replica.records.apply_events(events[:10])  # committed, not acknowledged
    async with servers.replica() as replica:
        await eventually(lambda: _is(replica.states(ids), {"succeeded"}))
        await eventually(lambda: _is(replica.live.fetch_stream_length(), 0))


async def test_a_replica_without_a_sign_of_life_is_succeeded_long_before_its_entries_are_old(
    servers: Servers, store: Store
) -> None:
    """One that lives and is slow keeps what it has read; when its signs end, another records it and removes it."""
    async with servers.replica(reclaim_idle_seconds=600, reclaim_interval_seconds=0.1) as replica:
        ids = await replica.submit([build_new_task() for _ in range(20)])
        await eventually(lambda: _is(replica.states(ids), {"queued"}))
        slow = Replicas(replica.live, FAST, "slow-1")
        await _read_as(replica, store, "slow-1/0", ids)
        for _ in range(4 * DEAD_LOOKS):
            await slow.step()
            beats = (await replica.live.beat("watch", 1))[replica.background.replicas.process]
            await eventually(lambda n=beats: _has_beaten(replica, n))
        assert await replica.states(ids) == {"queued"}, "it lives"
        await eventually(lambda: _is(replica.states(ids), {"succeeded"}))
        await eventually(lambda: _lacks_consumer(replica, "slow-1"))
        assert await replica.live.fetch_stream_length() == 0


async def test_a_takeover_without_an_answer_is_asked_for_again(servers: Servers, store: Store) -> None:
    """The store hands the entries over and the answer is lost: they are this replica's, which lives."""
    async with servers.replica(reclaim_idle_seconds=600) as replica:
        ids = await replica.submit([build_new_task() for _ in range(3)])
        await eventually(lambda: _is(replica.states(ids), {"queued"}))
        await replica.background._supervisor.stop("recorder-takeover")
        await _read_as(replica, store, "gone-1/0", ids)
        successor = Recorder(replica.records, replica.live, FAST, Tallies(), consumer="successor-1/takeover")
        successor._lacks_answer = True
        await replica.live.take_over_events("gone-1/0", "successor-1/takeover", limit=10)
        assert await successor.take_over_step(replica.background.replicas) == 0.0
        assert await replica.states(ids) == {"succeeded"}
        assert not successor._lacks_answer


async def test_a_replica_that_was_only_paused_records_nothing_twice(servers: Servers, store: Store) -> None:
    queue = f"paused-{uuid4().hex}"
    async with servers.replica(reclaim_idle_seconds=600) as replica:
        ids = await replica.submit([build_new_task(queue) for _ in range(5)])
        paused = Recorder(replica.records, replica.live, FAST, Tallies(), consumer="paused-1/0")
        paused._unfinished = await _read_as(replica, store, "paused-1/0", ids, queue=queue)
        await eventually(lambda: _is(replica.states(ids), {"succeeded"}))
        await eventually(lambda: _lacks_consumer(replica, "paused-1"))
        await paused.step()
        assert await replica.states(ids) == {"succeeded"}
    labels = {"queue": queue, "state": "succeeded"}
    assert REGISTRY.get_sample_value("taskfleet_tasks_finished_total", labels) == 5


async def test_two_replicas_share_the_events(servers: Servers, store: Store) -> None:
    async with servers.replica() as first, servers.replica() as second:
        ids = await first.submit([build_new_task() for _ in range(300)])
        for task_id in ids:
            await store.emit(build_state_event(TaskState.RUNNING, task_id))
            await store.emit(build_state_event(TaskState.SUCCEEDED, task_id))
        await eventually(lambda: _is(first.states(ids), {"succeeded"}))
        await eventually(lambda: _is(second.live.fetch_stream_length(), 0))


async def test_an_unreadable_entry_does_not_hold_up_the_others(servers: Servers, store: Store) -> None:
    async with servers.replica() as replica:
        (task_id,) = await replica.submit([build_new_task()])
        for text in ("{broken", '{"schema": 1}', "17"):
            await store.client.xadd(wire.EVENTS_STREAM, {wire.EVENT_FIELD: text})
        await store.emit(build_state_event(TaskState.SUCCEEDED, "not-a-uuid"))
        await store.emit(build_state_event(TaskState.SUCCEEDED, task_id))
        await eventually(lambda: _is(replica.states([task_id]), {"succeeded"}))
        await eventually(lambda: _is(replica.live.fetch_stream_length(), 0))


async def test_an_event_of_a_newer_release_waits_for_it(servers: Servers, store: Store) -> None:
    async with servers.replica() as replica:
        (task_id,) = await replica.submit([build_new_task()])
        await store.emit(build_state_event(TaskState.SUCCEEDED, task_id, schema=2))
        await store.emit(build_state_event(TaskState.RUNNING, task_id))
        await eventually(lambda: _is(replica.states([task_id]), {"running"}))
        assert await replica.live.fetch_stream_length() == 1


async def test_a_task_of_a_plain_celery_producer_gets_a_record(servers: Servers, store: Store) -> None:
    async with servers.replica() as replica:
        task_id = uuid4()
        event = build_state_event(TaskState.SUCCEEDED, task_id, origin="celery", args=[1], kwargs={})
        await store.emit(event)
        record = await eventually(lambda: replica.records.get(task_id))
        assert record is not None
        assert (record.origin, record.args, record.state) == ("celery", "[1]", "succeeded")


async def test_a_failure_that_the_platform_repeats_is_published_again_when_due(servers: Servers, store: Store) -> None:
    from taskfleet_api.records import RetryPolicy

    async with servers.replica() as replica:
        policy = RetryPolicy(max_attempts=2, backoff_seconds=0.3, max_backoff_seconds=1, jitter=False)
        (task_id,) = await replica.submit([build_new_task(retry=policy)])
        await eventually(lambda: _is(replica.states([task_id]), {"queued"}))
        await store.emit(build_state_event(TaskState.RETRYING, task_id, ends_attempt=True))
        await eventually(lambda: _is(store.queued("q"), 2))
        record = await eventually(lambda: _published(replica.get(task_id)))
        assert (record.attempt, record.state) == (2, "queued")


async def test_without_redis_submissions_go_on_and_recording_resumes(servers: Servers, store: Store) -> None:
    """Redis is away: the registry comes from SQL, tasks are accepted and reach the broker; later events are applied."""
    redis_server = Valkey()
    redis_server.start()
    other = Store(redis_server.url)
    parted = Servers(servers.database_url, redis_server.url, servers.broker_url)
    try:
        await other.register("q")
        async with parted.replica() as replica:
            redis_server.kill()
            await eventually(lambda: replica.background.health()["recorder-0"].consecutive_failures > 0)
            ids = await replica.submit([build_new_task() for _ in range(10)])
            await eventually(lambda: _is(replica.states(ids), {"queued"}))
        async with parted.replica() as fresh:
            assert fresh.background.directory.names() == ["q"], "a replica that starts now knows the queues from SQL"
            await eventually(lambda: fresh.background.health()["recorder-0"].consecutive_failures > 0)
            redis_server.start()
            await other.client.connection_pool.disconnect()
            await other.emit(*(build_state_event(TaskState.SUCCEEDED, task_id) for task_id in ids))
            await eventually(lambda: _is(fresh.states(ids), {"succeeded"}))
            await eventually(lambda: fresh.background.health()["recorder-0"].healthy)
    finally:
        await other.client.aclose()
        redis_server.stop()


async def test_a_database_outage_keeps_the_events(servers: Servers, store: Store) -> None:
    """What cannot be applied is neither acknowledged nor lost, and the recorder's health shows it."""
    async with servers.replica() as replica:
        ids = await replica.submit([build_new_task() for _ in range(5)])
        await eventually(lambda: _is(replica.states(ids), {"queued"}))
        await replica.background._supervisor.stop("recorder-0", "recorder-1", "recorder-reclaim")
        away = Servers("sqlite:////nonexistent/records.sqlite", servers.redis_url, servers.broker_url)
        async with away.replica() as broken:
            await store.emit(*(build_state_event(TaskState.SUCCEEDED, task_id) for task_id in ids))
            # Whichever of the two lanes read the events shows it.
            await eventually(
                lambda: any(
                    broken.background.health()[lane].consecutive_failures > 2 for lane in ("recorder-0", "recorder-1")
                )
            )
            assert await broken.live.fetch_stream_length() == 5
    async with servers.replica() as replica:
        await eventually(lambda: _is(replica.states(ids), {"succeeded"}))


async def test_finished_tasks_are_counted_once(servers: Servers, store: Store) -> None:
    queue = f"counted-{uuid4().hex}"
    async with servers.replica() as replica:
        (task_id,) = await replica.submit([build_new_task(queue)])
        event = build_state_event(TaskState.SUCCEEDED, task_id, queue=queue, runtime_seconds=0.25)
        await store.emit(event, event)
        await store.emit(event)
        await eventually(lambda: _is(replica.states([task_id]), {"succeeded"}))
        await eventually(lambda: _is(replica.live.fetch_stream_length(), 0))
    labels = {"queue": queue, "state": "succeeded"}
    assert REGISTRY.get_sample_value("taskfleet_tasks_finished_total", labels) == 1
    assert REGISTRY.get_sample_value("taskfleet_task_run_seconds_sum", {"queue": queue}) == 0.25
    assert REGISTRY.get_sample_value("taskfleet_task_wait_seconds_count", {"queue": queue}) == 1


async def test_recording_keeps_up_with_a_fleet(rabbit_servers: Servers, store: Store) -> None:
    """A rate that a loaded machine reaches too; the figure itself is the benchmark's (see the printed line)."""
    from taskfleet_api.live import LiveStore
    from taskfleet_api.records import open_records

    records = await open_records(rabbit_servers.database_url)
    live = LiveStore(rabbit_servers.redis_url)
    try:
        tasks = [build_new_task() for _ in range(5_000)]
        await records.insert_tasks(tasks)
        for start in range(0, len(tasks), 1000):
            part = tasks[start : start + 1000]
            await store.emit(*(build_state_event(TaskState.RUNNING, task.id) for task in part))
            await store.emit(*(build_state_event(TaskState.SUCCEEDED, task.id, result=1) for task in part))
        recorder = Recorder(records, live, FAST, Tallies(), consumer="only")
        started, processor = time.perf_counter(), time.process_time()
        while await live.fetch_stream_length():
            await recorder.step()
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        rate, per_cpu = 10_000 / seconds, 10_000 / processor
        sys.stdout.write(f"recorder: {rate:.0f} events/s, {per_cpu:.0f} per CPU second of this process\n")
        found = await records.get_many([task.id for task in tasks])
        assert {record.state for record in found.values()} == {TaskState.SUCCEEDED}
        assert rate > 500
    finally:
        await live.close()
        await records.close()


async def _read_as(
    replica: Replica, store: Store, consumer: str, ids: Sequence[UUID], queue: str = "q"
) -> list[StreamEntry]:
    """All these tasks end, and this consumer alone reads of it."""
    lanes = ("recorder-0", "recorder-1")
    await replica.background._supervisor.stop(*lanes)
    await store.emit(*(build_state_event(TaskState.SUCCEEDED, task_id, queue=queue) for task_id in ids))
    entries = await eventually(lambda: replica.live.read_events(consumer, limit=100, block_seconds=0.1))
    assert len(entries) == len(ids)
    return entries


async def _has_beaten(replica: Replica, beats: int) -> bool:
    return (await replica.live.beat("watch", 1))[replica.background.replicas.process] > beats


async def _lacks_consumer(replica: Replica, process: str) -> bool:
    return all(get_process(name) != process for name in await replica.live.fetch_consumers())


async def _is(value: object, expected: object) -> bool:
    return await value == expected  # type: ignore[misc]


async def _published(record: object) -> object:
    found = await record  # type: ignore[misc]
    return found if found.published_at is not None and found.attempt == 2 else None
