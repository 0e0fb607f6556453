"""Schedules: kept whole, and each tick becomes one task over all replicas."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

from tests.integration.records.samples import NOW, build_task

from taskfleet_api.records import Records, ScheduleRecord, TaskFilter

MINUTE = timedelta(minutes=1)


def build_schedule(schedule_id: str = "nightly", next_at: datetime | None = NOW) -> ScheduleRecord:
    return ScheduleRecord(
        id=schedule_id,
        queue="mail",
        task="mail.send",
        spec_json='{"cron": "* * * * *"}',
        paused=False,
        next_at=next_at,
        created_at=NOW,
        updated_at=NOW,
    )


async def test_schedules_are_kept_replaced_listed_and_deleted(records: Records) -> None:
    first, second = build_schedule("a"), build_schedule("b", None)
    assert await records.put_schedule(first)
    assert await records.put_schedule(second)
    assert await records.get_schedule("a") == first
    changed = replace(first, spec_json="{}", paused=True, created_at=NOW + MINUTE, updated_at=NOW + MINUTE)
    assert not await records.put_schedule(changed)
    kept = await records.get_schedule("a")
    assert kept == replace(changed, created_at=NOW)
    assert await records.list_schedules() == [kept, second]
    assert await records.list_schedules(after="a") == [second]
    assert await records.list_schedules(limit=1) == [kept]
    assert [await records.delete_schedule("a") for _ in range(2)] == [True, False]
    assert await records.get_schedule("a") is None


async def test_of_two_owners_who_save_one_id_at_once_the_first_keeps_it(records: Records, replica: Records) -> None:
    for number in range(10):
        wanted = [replace(build_schedule(f"id-{number}"), queue=queue) for queue in ("mail", "shop")]
        created = await asyncio.gather(
            *(where.put_schedule(one, one.queue.__eq__) for where, one in zip((records, replica), wanted, strict=True))
        )
        assert set(created) == {True, None}
        kept = await records.get_schedule(f"id-{number}")
        assert kept == wanted[created.index(True)]
        assert await records.put_schedule(kept, kept.queue.__eq__) is False


async def test_only_unpaused_schedules_that_are_due_are_handed_out(records: Records) -> None:
    due, later = build_schedule("due"), build_schedule("later", NOW + MINUTE)
    paused = replace(build_schedule("paused"), paused=True)
    for schedule in (due, later, paused, build_schedule("done", None)):
        await records.put_schedule(schedule)
    assert [item.id for item in await records.claim_ticks(NOW)] == ["due"]


async def test_each_tick_becomes_one_task_over_all_replicas(records: Records, replica: Records) -> None:
    await records.put_schedule(build_schedule())
    ticks = [NOW + number * MINUTE for number in range(5)]

    async def tick(where: Records) -> list[bool]:
        return [
            await where.insert_tick_tasks("nightly", at, at + MINUTE, build_task(created_at=at, origin="schedule"))
            for at in ticks
        ]

    answers = await asyncio.gather(*[tick(where) for where in (records, replica, records, replica)])
    assert [sum(column) for column in zip(*answers, strict=True)] == [1, 1, 1, 1, 1]
    page = await records.list_tasks(TaskFilter())
    assert [item.created_at for item in page.items] == ticks[::-1]
    schedule = await records.get_schedule("nightly")
    assert schedule is not None
    assert (schedule.next_at, schedule.last_tick_at) == (NOW + 5 * MINUTE, ticks[-1])
    assert schedule.last_task_id == page.items[0].id


async def test_a_tick_that_is_not_due_is_refused(records: Records) -> None:
    await records.put_schedule(build_schedule(next_at=NOW + MINUTE))
    assert not await records.insert_tick_tasks("nightly", NOW, NOW + MINUTE, build_task())
    assert not await records.insert_tick_tasks("gone", NOW, NOW + MINUTE, build_task())
    await records.put_schedule(replace(build_schedule("off"), paused=True))
    assert not await records.insert_tick_tasks("off", NOW, NOW + MINUTE, build_task())
    assert await records.backlog() == 0


async def test_a_schedule_that_is_set_back_repeats_no_tick(records: Records) -> None:
    await records.put_schedule(build_schedule())
    assert await records.insert_tick_tasks("nightly", NOW, NOW + MINUTE, build_task())
    await records.put_schedule(build_schedule())
    assert not await records.insert_tick_tasks("nightly", NOW, NOW + MINUTE, build_task())
    assert await records.claim_ticks(NOW) == []
    assert await records.backlog() == 1


async def test_missed_ticks_can_be_skipped(records: Records) -> None:
    await records.put_schedule(build_schedule())
    assert await records.insert_tick_tasks("nightly", NOW + MINUTE, NOW + 2 * MINUTE, None)
    assert await records.claim_ticks(NOW + MINUTE) == []
    assert await records.backlog() == 0


async def test_old_ticks_are_deleted_in_batches(records: Records) -> None:
    await records.put_schedule(build_schedule())
    for number in range(5):
        at = NOW + number * MINUTE
        assert await records.insert_tick_tasks("nightly", at, at + MINUTE, build_task())
    assert [await records.delete_ticks(NOW + 4 * MINUTE, 3) for _ in range(3)] == [3, 1, 0]
