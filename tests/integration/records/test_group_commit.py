"""Group commit: concurrent submissions share transactions, and none suffers for another."""

import asyncio
import hashlib

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.integration.records.samples import build_task, build_tasks

from taskfleet_api.records import Accepted, GroupCommit, KeyConflict, Records
from taskfleet_core.errors import InvalidInputError, OverloadedError

BODY = hashlib.sha256(b"body").digest()


async def test_every_caller_gets_its_own_outcomes(records: Records) -> None:
    group = GroupCommit(records)
    single = [build_task() for _ in range(40)]
    batch = build_tasks(7)
    answers = await asyncio.gather(*[group.submit([task]) for task in single], group.submit(batch))
    assert answers[:-1] == [[Accepted(task.id)] for task in single]
    assert answers[-1] == [Accepted(task.id) for task in batch]
    assert await records.backlog() == 47
    await group.close()


async def test_concurrent_submissions_share_commits(records: Records) -> None:
    if not records.database.is_postgresql:
        pytest.skip("only PostgreSQL shows the transaction of a row")
    group = GroupCommit(records)
    await asyncio.gather(*[group.submit([build_task()]) for _ in range(200)])
    async with records.database.connect() as connection:
        query = text("SELECT count(DISTINCT xmin::text) FROM tasks")
        assert (await connection.execute(query)).scalar_one() <= 4
    await group.close()


async def test_a_round_is_bounded_but_takes_one_larger_submission_whole(records: Records) -> None:
    group = GroupCommit(records, max_batch=5, max_waiting=100)
    answers = await asyncio.gather(*[group.submit(build_tasks(count)) for count in (1, 3, 12, 2, 5, 4)])
    assert [len(answer) for answer in answers] == [1, 3, 12, 2, 5, 4]
    assert await records.backlog() == 27
    await group.close()


async def test_too_many_waiting_submissions_are_refused_not_queued(records: Records) -> None:
    group = GroupCommit(records, max_batch=2, max_waiting=10)
    answers = await asyncio.gather(*[group.submit([build_task()]) for _ in range(50)], return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, OverloadedError)]
    assert len(refused) == 40
    assert await records.backlog() == 10
    assert group.waiting == 0
    await group.close()


async def test_the_same_key_in_one_round_records_one_task(records: Records) -> None:
    group = GroupCommit(records)
    tasks = [build_task(idempotency_key="k", body_hash=BODY) for _ in range(10)]
    other = build_task(idempotency_key="k", body_hash=hashlib.sha256(b"other").digest())
    *answers, last = await asyncio.gather(*[group.submit([task]) for task in [*tasks, other]])
    assert answers == [[Accepted(tasks[0].id, replayed=number > 0)] for number in range(10)]
    assert last == [KeyConflict("k")]
    await group.close()


async def test_a_submission_that_the_database_refuses_fails_alone(records: Records) -> None:
    group = GroupCommit(records)
    good = [build_task() for _ in range(10)]
    await records.insert_tasks([good[4]])  # its second insert breaks the primary key
    answers = await asyncio.gather(*[group.submit([task]) for task in good], return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(failed) == 1
    assert answers.index(failed[0]) == 4
    assert isinstance(failed[0], DBAPIError) or type(failed[0]).__name__ == "UniqueViolationError"
    assert await records.backlog() == 10
    await group.close()


async def test_bad_text_is_refused_before_it_joins_a_round(records: Records) -> None:
    group = GroupCommit(records)
    good = build_task()
    answers = await asyncio.gather(
        group.submit([build_task(task="a\0b")]), group.submit([good]), return_exceptions=True
    )
    assert isinstance(answers[0], InvalidInputError)
    assert answers[1] == [Accepted(good.id)]
    await group.close()


async def test_a_caller_that_leaves_does_not_disturb_the_others(records: Records) -> None:
    group = GroupCommit(records)
    leaving = asyncio.create_task(group.submit([build_task()]))
    staying = asyncio.create_task(group.submit([build_task()]))
    await asyncio.sleep(0)
    leaving.cancel()
    assert len(await staying) == 1
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await group.close()
    assert await records.backlog() == 2
