"""Callbacks become due with their task's end, in the same transaction, and one replica at a time has each."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from tests.integration.records.samples import NOW, build_event, build_task, build_tasks, ids_of

from taskfleet_api.records import (
    CallbackLease,
    CallbackRecord,
    CallbackState,
    NewCallback,
    NewTask,
    Records,
    RetryPolicy,
    ScheduleRecord,
)

HOOK = NewCallback("https://example.org/hook", "example.org:443")
LEASE = CallbackLease(slots=100, per_receiver=100, seconds=30, under_way={})
LATER = datetime.now(UTC) + timedelta(days=1)  # events are applied by the clock


async def get_callback(records: Records, task: NewTask) -> CallbackRecord:
    record = await records.get(task.id)
    assert record is not None
    assert record.callback is not None
    return record.callback


async def claim(records: Records, **changes: object) -> list[CallbackRecord]:
    return await records.claim_callbacks(LATER, replace(LEASE, **changes))  # type: ignore[arg-type]


async def test_a_callback_waits_until_its_task_has_ended(records: Records) -> None:
    told, plain = build_task(callback=HOOK, labels=(("a", "b"),), idempotency_key="k"), build_task()
    await records.insert_tasks([told, plain])
    await records.apply_events([build_event(told.id, "running"), build_event(plain.id, "succeeded", 2.0)])
    assert (await get_callback(records, told)).state is CallbackState.WAITING
    assert await claim(records) == []
    await records.apply_events([build_event(told.id, "succeeded", 2.0)])
    (due,) = await claim(records)
    assert (due.task_id, due.url, due.receiver, due.attempt, due.tries) == (told.id, *_parts(HOOK), 1, 1)
    record = await records.get(plain.id)
    assert record is not None
    assert record.callback is None


def _parts(callback: NewCallback) -> tuple[str, str]:
    return callback.url, callback.receiver


@pytest.mark.parametrize("end", ["cancel", "finish_cancelled", "expire", "dead"])
async def test_every_way_to_an_end_makes_it_due(records: Records, end: str) -> None:
    task = build_task(callback=HOOK, expires_at=NOW + timedelta(seconds=1), eta=NOW + timedelta(hours=1))
    await records.insert_tasks([task, build_task(callback=HOOK)])
    match end:
        case "cancel":
            await records.cancel(task.id)
        case "finish_cancelled":
            await records.mark_queued([task.id])
            await records.finish_cancelled(task.id)
        case "expire":
            await records.expire_due(LATER, 10)
        case "dead":
            await records.apply_events([build_event(task.id, "dead")])
    found = await claim(records)
    assert [record.task_id for record in found] == [task.id]


async def test_an_attempt_that_is_repeated_is_no_end_and_a_redrive_is_told_again(records: Records) -> None:
    task = build_task(callback=HOOK, retry=RetryPolicy(max_attempts=2))
    await records.insert_tasks([task])
    await records.apply_events([build_event(task.id, "retrying", ends_attempt=True)])
    assert await claim(records) == []
    await records.apply_events([build_event(task.id, "failed", 5.0, attempt=2)])
    (first,) = await claim(records)
    assert (first.attempt, first.tries) == (2, 1)
    await records.apply_events([build_event(task.id, "failed", 5.0, attempt=2)])
    assert (await get_callback(records, task)).tries == 1, "the same end again is no news"
    await records.start_attempt([task.id], NOW)
    await records.apply_events([build_event(task.id, "succeeded", 9.0, attempt=3)])
    assert not await records.settle_callback(replace(first, state=CallbackState.DELIVERED)), "of an older end"
    (second,) = await claim(records)
    assert (second.attempt, second.tries) == (3, 1)
    assert await records.settle_callback(replace(second, state=CallbackState.DELIVERED, due_at=None))
    assert (await get_callback(records, task)).state is CallbackState.DELIVERED
    assert await claim(records) == []


async def test_a_lease_keeps_others_out_and_ends(records: Records, replica: Records) -> None:
    tasks = build_tasks(40, callback=HOOK)
    await records.insert_tasks(tasks)
    await records.apply_events([build_event(task.id, "succeeded") for task in tasks])
    taken = await asyncio.gather(claim(records, slots=25), claim(replica, slots=25))
    rest = await claim(records)
    ids = [record.task_id for part in (*taken, rest) for record in part]
    assert sorted(ids) == sorted(ids_of(tasks)), "each once"
    again = await records.claim_callbacks(LATER + timedelta(seconds=31), LEASE)
    assert {record.tries for record in again} == {2}
    assert not await records.settle_callback(replace(rest[0] if rest else taken[0][0], last_error="late"))


async def test_a_busy_receiver_holds_up_nobody(records: Records) -> None:
    """Two of them with a long queue each; those behind them are found in the same look."""
    dead = [NewCallback(f"https://dead-{n}.example/", f"dead-{n}.example:443") for n in (1, 2)]
    crowd = [task for hook in dead for task in build_tasks(30, callback=hook)]
    await records.insert_tasks(crowd)
    await records.apply_events([build_event(task.id, "failed") for task in crowd])
    alive = build_tasks(3, callback=HOOK)
    await records.insert_tasks(alive)
    await records.apply_events([build_event(task.id, "failed") for task in alive])
    found = await claim(records, slots=10, per_receiver=2, under_way={"dead-1.example:443": 1})
    counts = [sum(record.receiver == name for record in found) for name in ("dead-1.example:443", "dead-2.example:443")]
    assert (counts, sum(record.receiver == HOOK.receiver for record in found)) == ([1, 2], 2)


async def test_an_end_that_an_older_release_recorded_is_found(records: Records) -> None:
    tasks = build_tasks(7, callback=HOOK)
    await records.insert_tasks(tasks)
    await records.apply_events([build_event(task.id, "succeeded") for task in tasks[:5]])
    async with records.database.begin() as connection:
        await connection.execute(text("UPDATE callbacks SET state = 'waiting', attempt = 0"))
        await connection.execute(text("UPDATE callbacks SET due_at = (SELECT MIN(created_at) FROM tasks)"))
    found, place, pages = 0, None, 0
    while pages == 0 or place is not None:
        marked, place = await records.review_callbacks(place, 3, NOW)
        found, pages = found + marked, pages + 1
    assert (found, pages) == (5, 3)
    assert len(await claim(records)) == 5


async def test_callbacks_go_with_their_tasks(records: Records) -> None:
    tasks = build_tasks(3, callback=HOOK)
    await records.insert_tasks(tasks)
    await records.apply_events([build_event(task.id, "succeeded") for task in tasks])
    assert await records.delete_finished(LATER, 10) == 3
    async with records.database.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM callbacks"))).scalar_one() == 0


async def test_tasks_of_schedules_have_callbacks_too(records: Records) -> None:
    await records.put_schedule(ScheduleRecord("s", "mail", "mail.send", "{}", False, NOW, NOW, NOW))
    task = build_task(callback=HOOK)
    assert await records.insert_tick_tasks("s", NOW, None, task)
    assert (await get_callback(records, task)).url == HOOK.url
