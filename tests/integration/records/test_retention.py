"""Retention deletes what is over, all that belongs to it and nothing else, batch by batch."""

import hashlib
from datetime import timedelta

from sqlalchemy import func, select
from tests.integration.records.samples import NOW, build_event, build_task, build_tasks, ids_of

from taskfleet_api.records import Accepted, Records
from taskfleet_api.records.tables import task_attempts, task_labels

BODY = hashlib.sha256(b"body").digest()


async def count_rows(records: Records) -> list[int]:
    async with records.database.connect() as connection:
        return [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (task_attempts, task_labels)
        ]


async def test_finished_tasks_go_in_batches_with_all_that_is_theirs(records: Records) -> None:
    tasks = build_tasks(10, labels=(("a", "b"),))
    running, recent = build_task(), build_task()
    await records.insert_tasks([*tasks, running, recent])
    states = ["succeeded", "failed", "cancelled", "expired", "dead"]
    await records.apply_events(
        [
            *[build_event(task.id, states[number % 5]) for number, task in enumerate(tasks)],
            build_event(running.id, "running"),
            build_event(recent.id, "succeeded", 1000.0),
        ]
    )
    again = await records.start_attempt([tasks[1].id], NOW)
    await records.apply_events([build_event(again[0].id, "succeeded", 2.0, attempt=2)])
    assert await count_rows(records) == [1, 10]
    old = NOW + timedelta(seconds=500)
    assert [await records.delete_finished(old, 4) for _ in range(4)] == [4, 4, 2, 0]
    assert set(await records.get_many(ids_of([*tasks, running, recent]))) == {running.id, recent.id}
    assert await count_rows(records) == [0, 0]


async def test_old_keys_go_in_batches_and_can_be_used_again(records: Records) -> None:
    tasks = [build_task(idempotency_key=f"k{number}", body_hash=BODY) for number in range(5)]
    young = build_task(idempotency_key="young", body_hash=BODY, created_at=NOW + timedelta(days=2))
    await records.insert_tasks([*tasks, young])
    old = NOW + timedelta(days=1)
    assert [await records.delete_keys(old, 3) for _ in range(3)] == [3, 2, 0]
    again = [build_task(idempotency_key=key, body_hash=BODY) for key in ("k0", "young")]
    assert await records.insert_tasks(again) == [Accepted(again[0].id), Accepted(young.id, replayed=True)]
