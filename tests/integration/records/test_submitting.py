"""Recording submissions: all fields survive, idempotency keys hold under concurrency, bad text breaks nothing."""

import asyncio
import hashlib
from datetime import timedelta

import pytest
from tests.integration.records.samples import NOW, build_task, build_tasks, ids_of

from taskfleet_api.records import Accepted, KeyConflict, KeyConflictError, Records, RetryPolicy, TaskFilter
from taskfleet_core.errors import InvalidInputError
from taskfleet_core.states import TaskState

BODY = hashlib.sha256(b"body").digest()
OTHER_BODY = hashlib.sha256(b"other").digest()


async def test_every_field_comes_back_as_it_was_submitted(records: Records) -> None:
    task = build_task(
        args_json='[1, "\\u0000", 123456789012345678901234567890]',
        kwargs_json='{"emoji": "\U0001f680", "nested": {"a": [null, true]}}',
        metadata_json='{"customer": "7"}',
        labels=(("customer", "7"),),
        priority=9,
        expires_at=NOW + timedelta(hours=1),
        retry=RetryPolicy(3, 0.5, 60.0, jitter=False),
        timeout_seconds=12.5,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        principal="someone",
    )
    assert await records.insert_tasks([task]) == [Accepted(task.id)]
    record = await records.get(task.id)
    assert record is not None
    assert (record.args, record.kwargs, record.metadata) == (task.args_json, task.kwargs_json, task.metadata_json)
    assert (record.priority, record.expires_at, record.retry) == (9, task.expires_at, task.retry)
    assert (record.timeout_seconds, record.traceparent, record.principal) == (12.5, task.traceparent, "someone")
    assert (record.created_at, record.state, record.attempt, record.max_attempts) == (NOW, TaskState.PENDING, 1, 3)


async def test_an_immediate_task_is_due_for_the_sweeper_after_the_grace(records: Records) -> None:
    task, past = build_task(), build_task(eta=NOW - timedelta(seconds=1))
    await records.insert_tasks([task, past])
    for record in (await records.get_many([task.id, past.id])).values():
        assert record.state is TaskState.PENDING
        assert record.due_at == NOW + timedelta(seconds=10)


async def test_a_task_with_a_future_eta_is_scheduled_and_due_then(records: Records) -> None:
    task = build_task(eta=NOW + timedelta(days=400))
    await records.insert_tasks([task])
    record = await records.get(task.id)
    assert record is not None
    assert (record.state, record.due_at) == (TaskState.SCHEDULED, task.eta)


async def test_a_large_batch_is_recorded_whole_and_answered_in_order(records: Records) -> None:
    tasks = build_tasks(2_500)
    assert await records.insert_tasks(tasks) == [Accepted(task.id) for task in tasks]
    assert await records.backlog() == 2_500
    assert await records.backlog(limit=100) == 100


async def test_an_empty_batch_is_nothing(records: Records) -> None:
    assert await records.insert_tasks([]) == []


async def test_a_megabyte_of_arguments_is_kept(records: Records) -> None:
    tasks = build_tasks(20, args_json='["' + "x" * 2**20 + '"]')
    await records.insert_tasks(tasks)
    record = await records.get(tasks[-1].id)
    assert record is not None
    assert record.args == tasks[-1].args_json


async def test_the_same_key_and_body_is_answered_with_the_first_task(records: Records) -> None:
    first = build_task(idempotency_key="k", body_hash=BODY)
    again = build_task(idempotency_key="k", body_hash=BODY)
    assert await records.insert_tasks([first]) == [Accepted(first.id)]
    assert await records.insert_tasks([again]) == [Accepted(first.id, replayed=True)]
    assert await records.get(again.id) is None


async def test_the_same_key_with_another_body_is_a_conflict_for_that_item_alone(records: Records) -> None:
    first = build_task(idempotency_key="k", body_hash=BODY)
    await records.insert_tasks([first])
    other, free = build_task(idempotency_key="k", body_hash=OTHER_BODY), build_task()
    assert await records.insert_tasks([other, free]) == [KeyConflict("k"), Accepted(free.id)]
    assert await records.get(other.id) is None


async def test_an_atomic_batch_with_a_conflict_records_nothing(records: Records) -> None:
    await records.insert_tasks([build_task(idempotency_key="k", body_hash=BODY)])
    free = build_task(idempotency_key="free", body_hash=BODY)
    other = build_task(idempotency_key="k", body_hash=OTHER_BODY)
    with pytest.raises(KeyConflictError) as caught:
        await records.insert_tasks([free, other], atomic=True)
    assert dict(caught.value.conflicts) == {1: KeyConflict("k")}
    assert await records.get(free.id) is None
    assert await records.insert_tasks([free], atomic=True) == [Accepted(free.id)]


async def test_keys_are_compared_byte_by_byte_and_per_principal(records: Records) -> None:
    keys = [("a", "Key"), ("a", "key"), ("b", "key"), ("", "akey"), ("a", "kéy"), ("a", "k" * 5000), ("a", "")]
    tasks = [build_task(principal=owner, idempotency_key=key, body_hash=BODY) for owner, key in keys]
    assert await records.insert_tasks(tasks) == [Accepted(task.id) for task in tasks]


async def test_a_key_twice_in_one_batch_belongs_to_the_first_item(records: Records) -> None:
    tasks = [build_task(idempotency_key="k", body_hash=body) for body in (BODY, BODY, OTHER_BODY)]
    first = tasks[0].id
    assert await records.insert_tasks(tasks) == [Accepted(first), Accepted(first, replayed=True), KeyConflict("k")]


async def test_concurrent_requests_with_the_same_keys_record_one_task_each(records: Records, replica: Records) -> None:
    keys = [f"key-{number}" for number in range(5)]

    async def submit(where: Records, order: int) -> list[Accepted | KeyConflict]:
        tasks = [build_task(idempotency_key=key, body_hash=BODY) for key in keys[order:] + keys[:order]]
        outcomes = await where.insert_tasks(tasks)
        return outcomes[-order:] + outcomes[:-order] if order else outcomes

    answers = await asyncio.gather(*[submit((records, replica)[n % 2], n % 5) for n in range(16)])
    for number in range(5):
        accepted = [answer[number] for answer in answers]
        assert all(isinstance(item, Accepted) for item in accepted)
        assert len({item.record_id for item in accepted if isinstance(item, Accepted)}) == 1
        assert sum(not item.replayed for item in accepted if isinstance(item, Accepted)) == 1
    assert await records.backlog() == 5


@pytest.mark.parametrize("field", ["queue", "task", "principal", "args_json", "metadata_json", "traceparent"])
async def test_text_that_a_database_refuses_is_the_callers_mistake(records: Records, field: str) -> None:
    for text in ("a\0b", "a\ud800b"):
        with pytest.raises(InvalidInputError):
            await records.insert_tasks([build_task(**{field: text})])


async def test_labels_that_cannot_be_indexed_are_left_out(records: Records) -> None:
    labels = (("nul", "a\0b"), ("surrogate", "\udfff"), ("long", "x" * 300), ("k\0", "v"), ("good", "Ünï"))
    task = build_task(labels=labels)
    assert await records.insert_tasks([task]) == [Accepted(task.id)]
    for key, value in labels:
        found = (await records.list_tasks(TaskFilter(labels=((key, value),)))).items
        assert [item.id for item in found] == ([task.id] if key == "good" else [])


async def test_names_are_told_apart_by_case(records: Records) -> None:
    lower, upper = build_task(queue="mail"), build_task(queue="Mail")
    await records.insert_tasks([lower, upper])
    page = await records.list_tasks(TaskFilter(queue="Mail"))
    assert [item.id for item in page.items] == ids_of([upper])
