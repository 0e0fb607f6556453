"""The outbox: due tasks are claimed by one replica at a time, published ones are never claimed again."""

import asyncio
from datetime import timedelta

from tests.integration.records.samples import NOW, build_event, build_task, build_tasks, ids_of

from taskfleet_api.records import CancelOutcome, Records
from taskfleet_core.states import TaskState

DUE = NOW + timedelta(seconds=60)


async def test_a_published_task_is_queued_and_of_no_more_interest_to_the_sweeper(records: Records) -> None:
    tasks = build_tasks(3)
    await records.insert_tasks(tasks)
    assert await records.mark_queued(ids_of(tasks), now=DUE) == 3
    for record in (await records.get_many(ids_of(tasks))).values():
        assert (record.state, record.published_at, record.due_at) == (TaskState.QUEUED, DUE, None)
    assert await records.claim_due(DUE, 10, 5) == []
    assert await records.backlog() == 0


async def test_marking_again_or_another_attempt_changes_nothing(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    assert await records.mark_queued([task.id], 2) == 0
    assert await records.mark_queued([task.id], {task.id: 1}) == 1
    assert await records.mark_queued([task.id]) == 0
    assert await records.mark_queued([]) == 0


async def test_marking_does_not_bring_back_a_cancelled_task(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    assert await records.cancel(task.id) is CancelOutcome.CANCELLED_NOW
    await records.mark_queued([task.id])
    record = await records.get(task.id)
    assert record is not None
    assert record.state is TaskState.CANCELLED


async def test_two_replicas_never_claim_the_same_task(records: Records, replica: Records) -> None:
    tasks = build_tasks(300)
    await records.insert_tasks(tasks)

    async def claim(where: Records) -> list[object]:
        mine: list[object] = []
        while claimed := await where.claim_due(DUE, 25, 30):
            mine += [record.id for record in claimed]
        return mine

    shares = await asyncio.gather(claim(records), claim(replica), claim(records), claim(replica))
    claimed = [task_id for share in shares for task_id in share]
    assert sorted(map(str, claimed)) == sorted(map(str, ids_of(tasks)))


async def test_a_claim_that_came_to_nothing_is_due_again_after_the_lease(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    (claimed,) = await records.claim_due(DUE, 10, 5)
    assert claimed.due_at == DUE + timedelta(seconds=5)
    assert claimed.args == "[]"
    assert await records.claim_due(DUE + timedelta(seconds=4), 10, 5) == []
    assert [item.id for item in await records.claim_due(DUE + timedelta(seconds=5), 10, 5)] == [task.id]


async def test_the_longest_due_come_first(records: Records) -> None:
    tasks = [build_task(eta=NOW + timedelta(seconds=seconds)) for seconds in (30, 10, 20)]
    await records.insert_tasks(tasks)
    claimed = await records.claim_due(DUE, 2, 5)
    assert {item.id for item in claimed} == {tasks[1].id, tasks[2].id}


async def test_a_waiting_task_expires_and_a_running_one_does_not(records: Records) -> None:
    tasks = build_tasks(4, expires_at=NOW + timedelta(seconds=30))
    forever = build_task()
    await records.insert_tasks([*tasks, forever])
    await records.mark_queued([tasks[1].id])
    await records.apply_events([build_event(tasks[2].id, "running"), build_event(tasks[3].id, "succeeded")])
    assert await records.expire_due(NOW, 10) == []
    expired = await records.expire_due(DUE, 10)
    assert sorted(expired) == sorted((task.id, "mail") for task in tasks[:2])
    record = await records.get(tasks[1].id)
    assert record is not None
    assert (record.state, record.finished_at) == (TaskState.EXPIRED, DUE)
    assert await records.expire_due(DUE, 10) == []


async def test_an_expired_task_ignores_its_late_start(records: Records) -> None:
    task = build_task(expires_at=NOW)
    await records.insert_tasks([task])
    await records.expire_due(DUE, 10)
    await records.apply_events([build_event(task.id, "running", 90.0)])
    record = await records.get(task.id)
    assert record is not None
    assert record.state is TaskState.EXPIRED
