"""Events on real databases: the record follows, whatever the order, the duplication and the number of replicas."""

import asyncio
import random
from datetime import timedelta

from tests.integration.records.samples import NOW, build_event, build_task, build_tasks, celery_id, ids_of

from taskfleet_api.records import Records, RetryPolicy, TaskFilter
from taskfleet_core.states import TaskState, position


async def test_a_life_is_recorded(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    await records.mark_queued([task.id])
    await records.apply_events([build_event(task.id, "running", 1.0)])
    running = await records.get(task.id)
    assert running is not None
    assert (running.state, running.worker, running.deliveries) == (TaskState.RUNNING, "worker-1", 1)
    result = await records.apply_events(
        [build_event(task.id, "succeeded", 3.0, result={"n": 1, "nul": "\0"}, runtime_seconds=2.0)]
    )
    assert result.finished == result.applied == (task.id,)
    done = await records.get(task.id)
    assert done is not None
    assert (done.state, done.result, done.runtime_seconds) == (TaskState.SUCCEEDED, '{"n":1,"nul":"\\u0000"}', 2.0)
    assert (done.started_at, done.finished_at) == (NOW + timedelta(seconds=1), NOW + timedelta(seconds=3))
    assert done.due_at is None
    assert done.published_at is not None


async def test_events_that_change_nothing_are_not_applied(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    events = [build_event(task.id, "running"), build_event(task.id, "failed", 2.0, error={"type": "E", "message": "m"})]
    assert (await records.apply_events(events)).applied == (task.id,)
    before = await records.get(task.id)
    again = await records.apply_events([*events, *events])
    assert again.applied == again.finished == ()
    assert await records.get(task.id) == before


async def test_an_event_before_the_publish_mark_wins(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    await records.apply_events([build_event(task.id, "running")])
    await records.mark_queued([task.id])
    record = await records.get(task.id)
    assert record is not None
    assert (record.state, record.due_at) == (TaskState.RUNNING, None)
    assert record.published_at is not None


async def test_a_task_handed_back_twice_tells_that_it_began_three_times(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    for count, worker in ((None, "worker-1"), (2, "worker-2"), (3, "worker-3")):
        more = {"redelivered": True, "deliveries": count} if count else {}
        await records.apply_events([build_event(task.id, "running", 1.0, worker=worker, **more)])
    await records.apply_events(
        [build_event(task.id, "succeeded", 9.0, worker="worker-3", redelivered=True, deliveries=3)]
    )
    record = await records.get(task.id)
    assert record is not None
    assert (record.state, record.attempt, record.deliveries) == (TaskState.SUCCEEDED, 1, 3)
    assert record.worker == "worker-3"


async def test_any_order_and_duplication_ends_in_the_same_row(records: Records) -> None:
    chance = random.Random(7)
    tasks = build_tasks(12, retry=RetryPolicy(3, 1.0))
    await records.insert_tasks(tasks)
    batches = []
    for task in tasks:
        life = [
            build_event(task.id, "running", 1.0),
            build_event(task.id, "running", 2.0, kind="progress", progress=[1], progress_count=1),
            build_event(task.id, "running", 3.0, kind="progress", progress=[2], progress_count=2),
            build_event(task.id, "retrying", 4.0, ends_attempt=True, error={"type": "E", "message": "1"}),
            build_event(task.id, "running", 6.0, attempt=2, worker="worker-2"),
            build_event(task.id, "retrying", 7.0, attempt=2, retries=0, error={"type": "E", "message": "2"}),
            build_event(task.id, "running", 8.0, attempt=2, retries=1, redelivered=True),
            build_event(task.id, "succeeded", 9.0, attempt=2, retries=1, result=None, runtime_seconds=1.0),
        ]
        life += chance.sample(life, 4)
        if task is not tasks[0]:
            chance.shuffle(life)
        batches += [life[start : start + 3] for start in range(0, 12, 3)]
    for batch in batches:
        await records.apply_events(batch)
    first = await records.get(tasks[0].id)
    assert first is not None
    assert (first.state, first.attempt, first.retries, first.deliveries) == (TaskState.SUCCEEDED, 2, 1, 2)
    assert (first.result, first.error) == ("null", None)
    for task in tasks[1:]:
        other = await records.get(task.id)
        assert other is not None
        for name in set(type(other).__slots__) - {"id", "created_at", "updated_at"}:
            assert getattr(other, name) == getattr(first, name), name
    assert first.earlier_attempts[0].progress == "[2]"
    assert first.earlier_attempts[0].state is TaskState.RETRYING


async def test_a_platform_retry_becomes_due_after_the_back_off(records: Records) -> None:
    task = build_task(retry=RetryPolicy(2, 4.0, jitter=False))
    await records.insert_tasks([task])
    error = {"type": "E", "message": "m"}
    result = await records.apply_events([build_event(task.id, "retrying", 1.0, ends_attempt=True, error=error)])
    assert result.retry_scheduled == (task.id,)
    record = await records.get(task.id)
    assert record is not None
    assert (record.state, record.attempt, record.error) == (TaskState.RETRYING, 2, None)
    assert record.position == position(2, 0, TaskState.SCHEDULED)
    assert record.due_at == NOW + timedelta(seconds=5)
    assert record.published_at is None
    assert [(item.attempt, item.error) for item in record.earlier_attempts] == [(1, '{"type":"E","message":"m"}')]
    assert await records.claim_due(NOW + timedelta(seconds=4), 10, 5) == []
    assert [item.attempt for item in await records.claim_due(NOW + timedelta(seconds=5), 10, 5)] == [2]


async def test_the_wait_of_an_attempt_is_told_once_from_when_it_was_due(records: Records) -> None:
    at_once, later, short, plain = build_task(), build_task(eta=NOW + timedelta(seconds=10)), build_task(), celery_id()
    await records.insert_tasks([at_once, later, short])
    events = [
        build_event(at_once.id, "running", 2.0),
        build_event(later.id, "running", 13.0),
        build_event(short.id, "succeeded", 5.0, runtime_seconds=1.0),
        build_event(plain, "running", 1.0, origin="celery", args=[], kwargs={}),
    ]
    told = dict((await records.apply_events(events)).waits)
    assert {key: round(seconds, 3) for key, seconds in told.items()} == {at_once.id: 2.0, later.id: 3.0, short.id: 4.0}
    again = await records.apply_events([*events, build_event(at_once.id, "succeeded", 9.0, runtime_seconds=7.0)])
    assert again.waits == ()


async def test_the_wait_of_a_later_attempt_counts_from_its_publication(records: Records) -> None:
    task = build_task(retry=RetryPolicy(2, 4.0, jitter=False))
    await records.insert_tasks([task])
    await records.apply_events([build_event(task.id, "retrying", ends_attempt=True, runtime_seconds=0.1)])
    await records.claim_due(NOW + timedelta(seconds=5), 10, 5)
    await records.mark_queued([task.id], 2, now=NOW + timedelta(seconds=6))
    result = await records.apply_events([build_event(task.id, "running", 9.0, attempt=2)])
    assert [(key, round(waited, 3)) for key, waited in result.waits] == [(task.id, 3.0)]


async def test_the_last_attempt_of_the_policy_fails(records: Records) -> None:
    task = build_task(retry=RetryPolicy(1))
    await records.insert_tasks([task])
    result = await records.apply_events([build_event(task.id, "retrying", ends_attempt=True)])
    assert (result.retry_scheduled, result.finished) == ((), (task.id,))


async def test_a_task_of_a_celery_producer_gets_a_record_on_first_sight(records: Records) -> None:
    task_id = celery_id()
    done = build_event(task_id, "succeeded", 2.0, origin="celery", result=1)
    assert (await records.apply_events([done])).created == (task_id,)
    late = build_event(task_id, "running", 1.0, origin="celery", args=[1], kwargs={"a": "\ud800"})
    assert (await records.apply_events([late])).created == ()
    record = await records.get(task_id)
    assert record is not None
    assert (record.state, record.origin, record.args, record.kwargs) == (
        TaskState.SUCCEEDED,
        "celery",
        "[1]",
        '{"a":"\\ud800"}',
    )
    assert record.created_at == NOW + timedelta(seconds=1)
    assert record.due_at is None


async def test_two_replicas_that_see_new_tasks_at_once_make_one_record_each(records: Records, replica: Records) -> None:
    ids = [celery_id() for _ in range(30)]
    events = [build_event(task_id, state, at) for task_id in ids for state, at in (("running", 1.0), ("failed", 2.0))]
    results = await asyncio.gather(
        *[where.apply_events(events[::step]) for where in (records, replica) for step in (1, -1)]
    )
    assert sorted(task_id for result in results for task_id in result.created) == sorted(ids)
    assert sorted(task_id for result in results for task_id in result.finished) == sorted(ids)
    page = await records.list_tasks(TaskFilter(states=frozenset({TaskState.FAILED})), limit=100)
    assert len(page.items) == 30


async def test_replicas_marking_claiming_and_applying_at_once_lose_nothing(records: Records, replica: Records) -> None:
    tasks = build_tasks(200)
    await records.insert_tasks(tasks)
    ids = ids_of(tasks)
    events = [build_event(task_id, state, 1.0) for state in ("succeeded", "running") for task_id in ids]
    random.Random(3).shuffle(events)
    await asyncio.gather(
        records.mark_queued(ids),
        replica.mark_queued(ids[::-1]),
        *[
            where.apply_events(events[start : start + 80])
            for start in range(0, 400, 80)
            for where in (records, replica)
        ],
        replica.claim_due(NOW + timedelta(seconds=60), 500, 5),
    )
    page = await records.list_tasks(TaskFilter(states=frozenset({TaskState.SUCCEEDED})), limit=500)
    assert len(page.items) == 200
    assert all(item.due_at is None and item.published_at is not None for item in page.items)


async def test_what_cannot_be_recorded_is_counted_and_the_rest_applied(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    good = build_event(task.id, "running", worker="w\0" + "x" * 400, attempt=1)
    bad = [{**good, "id": "not-a-uuid"}, {**good, "state": "odd"}, {**good, "at": 1e300}, {}]
    result = await records.apply_events([*bad, good])  # type: ignore[list-item]
    assert (result.malformed, result.applied) == (4, (task.id,))


async def test_huge_numbers_do_not_break_a_batch(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    huge = 10**40
    events = [
        build_event(task.id, "running", kind="progress", progress=huge, progress_count=huge),
        build_event(task.id, "succeeded", result=huge, result_omitted_bytes=huge, runtime_seconds=float("inf")),
    ]
    await records.apply_events(events)
    record = await records.get(task.id)
    assert record is not None
    assert (record.result, record.progress, record.runtime_seconds) == (str(huge), str(huge), None)
    far = celery_id()
    await records.apply_events([{**build_event(far, "running"), "attempt": huge, "retries": huge}])
    assert (await records.get(far)) is not None
