"""Cancel, retry, redrive, the lease and purging."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from tests.integration.records.samples import NOW, build_event, build_task, build_tasks, ids_of, new_id

from taskfleet_api.records import CancelOutcome, Records, RetryPolicy
from taskfleet_core.states import TaskState, position

LATER = NOW + timedelta(minutes=5)
FAILURE = {"type": "ValueError", "message": "no"}


async def get_state(records: Records, task_id: UUID) -> TaskState:
    record = await records.get(task_id)
    assert record is not None
    return record.state


async def test_a_task_that_waits_here_is_cancelled_at_once(records: Records) -> None:
    pending, scheduled = build_task(), build_task(eta=NOW + timedelta(days=1))
    retrying = build_task(retry=RetryPolicy(3))
    await records.insert_tasks([pending, scheduled, retrying])
    await records.apply_events([build_event(retrying.id, "retrying", ends_attempt=True)])
    for task in (pending, scheduled, retrying):
        assert await records.cancel(task.id, now=LATER) is CancelOutcome.CANCELLED_NOW
        record = await records.get(task.id)
        assert record is not None
        assert (record.state, record.finished_at, record.due_at) == (TaskState.CANCELLED, LATER, None)
        assert await records.cancel(task.id) is CancelOutcome.ALREADY_FINAL


async def test_a_published_task_needs_a_worker_to_cancel(records: Records) -> None:
    queued, running, waiting = build_tasks(3)
    await records.insert_tasks([queued, running, waiting])
    await records.mark_queued(ids_of([queued, running, waiting]))
    await records.apply_events([build_event(running.id, "running"), build_event(waiting.id, "retrying")])
    for task in (queued, running, waiting):
        assert await records.cancel(task.id) is CancelOutcome.NEEDS_WORKER
        record = await records.get(task.id)
        assert record is not None
        assert record.cancel_requested
        assert not record.state.is_final
    assert [await records.finish_cancelled(task.id) for task in (queued, running, waiting)] == [True, False, True]
    assert await get_state(records, queued.id) is TaskState.CANCELLED
    assert await get_state(records, running.id) is TaskState.RUNNING


async def test_a_cancelled_task_ignores_what_its_worker_says_later(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    await records.cancel(task.id)
    await records.apply_events([build_event(task.id, "running"), build_event(task.id, "succeeded", 2.0)])
    assert await get_state(records, task.id) is TaskState.CANCELLED


async def test_an_unknown_task_is_not_found(records: Records) -> None:
    assert await records.cancel(new_id()) is CancelOutcome.NOT_FOUND
    assert await records.finish_cancelled(new_id()) is False
    assert await records.start_attempt([new_id()], NOW) == []


@pytest.mark.parametrize("state", ["failed", "dead", "cancelled", "expired"])
async def test_a_new_attempt_keeps_the_old_one(records: Records, state: str) -> None:
    task = build_task()
    await records.insert_tasks([task])
    await records.mark_queued([task.id])
    await records.apply_events([build_event(task.id, state, 2.0, error=FAILURE, runtime_seconds=1.0)])
    (started,) = await records.start_attempt([task.id], LATER)
    assert (started.state, started.attempt, started.position) == (
        TaskState.PENDING,
        2,
        position(2, 0, TaskState.PENDING),
    )
    assert (started.error, started.started_at, started.worker, started.published_at) == (None, None, None, None)
    assert started.due_at == LATER + timedelta(seconds=10)
    record = await records.get(task.id)
    assert record is not None
    (old,) = record.earlier_attempts
    assert (old.attempt, old.state, old.error) == (1, state, '{"type":"ValueError","message":"no"}')
    await records.mark_queued([task.id], 2)
    await records.apply_events([build_event(task.id, "succeeded", 400.0, attempt=2, result=1)])
    assert await get_state(records, task.id) is TaskState.SUCCEEDED


async def test_only_what_ended_badly_can_be_started_again(records: Records) -> None:
    running, done = build_tasks(2)
    await records.insert_tasks([running, done])
    await records.apply_events([build_event(running.id, "running"), build_event(done.id, "succeeded")])
    assert await records.start_attempt([running.id, done.id], LATER) == []


async def test_concurrent_redrives_start_one_attempt(records: Records, replica: Records) -> None:
    tasks = build_tasks(20)
    await records.insert_tasks(tasks)
    await records.apply_events([build_event(task.id, "dead") for task in tasks])
    ids = ids_of(tasks)
    answers = await asyncio.gather(*[where.start_attempt(ids, LATER) for where in (records, replica, records)])
    assert sorted(len(answer) for answer in answers) == [0, 0, 20]


async def test_a_lost_task_is_published_again_as_the_next_attempt(records: Records) -> None:
    queued, running, fresh = build_tasks(3)
    await records.insert_tasks([queued, running, fresh])
    await records.mark_queued(ids_of([queued, running, fresh]), now=NOW)
    await records.apply_events([build_event(running.id, "running")])
    stale = await records.stale_open("mail", NOW + timedelta(seconds=1), 10)
    assert {item.id for item in stale} == {queued.id, fresh.id}
    assert await records.stale_open("images", LATER, 10) == []
    begun = await records.republish([queued.id, running.id], LATER, older_than=NOW + timedelta(seconds=1))
    assert [(item.id, item.state, item.attempt, item.due_at) for item in begun] == [
        (queued.id, TaskState.RETRYING, 2, LATER)
    ]
    assert await records.stale_open("mail", NOW + timedelta(seconds=1), 10) != []
    assert [item.id for item in await records.claim_due(LATER, 10, 5)] == [queued.id]
    assert await records.republish([queued.id], LATER) == []


async def test_the_dead_can_be_listed_and_purged(records: Records) -> None:
    tasks = build_tasks(5, labels=(("a", "b"),))
    other = build_task(queue="images")
    await records.insert_tasks([*tasks, other])
    await records.apply_events([build_event(task.id, "dead", queue=task.queue) for task in (*tasks[:4], other)])
    assert await records.dead_ids("mail", 3) == ids_of(tasks[:3])
    assert await records.purge_dead("mail") == 4
    assert await records.dead_ids("mail", 3) == []
    assert await records.dead_ids("images", 3) == [other.id]
    assert set(await records.get_many(ids_of(tasks))) == {tasks[4].id}
