"""When the database is gone every call says so in bounded time, without secrets, and all is well once it is back."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest
from tests.integration.records.samples import NOW, build_event, build_task
from tests.support.databases import PASSWORD, DatabaseServer, MariaDB, PostgreSQL
from tests.support.processes import free_port
from tests.support.waiting import eventually

from taskfleet_api.records import Accepted, GroupCommit, Records, TaskFilter, open_records
from taskfleet_core.errors import InvalidInputError, RecordsUnavailableError

TIMEOUT_SECONDS = 2.0


@pytest.fixture(scope="module", params=[PostgreSQL, MariaDB])
def server(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """A server of its own, as it is killed."""
    made: DatabaseServer = request.param()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
async def records(server: DatabaseServer):  # type: ignore[no-untyped-def]
    opened = await open_records(server.url, pool_size=3, timeout_seconds=TIMEOUT_SECONDS)
    await opened.migrate()
    yield opened
    await opened.close()


def build_calls(records: Records) -> list[Callable[[], object]]:
    task = build_task()
    return [
        records.ping,
        lambda: records.insert_tasks([task]),
        lambda: records.insert_tasks([build_task(idempotency_key=str(task.id))]),
        lambda: records.mark_queued([task.id]),
        lambda: records.claim_due(NOW, 1, 1),
        lambda: records.apply_events([build_event(task.id, "running")]),
        lambda: records.get(task.id),
        lambda: records.list_tasks(TaskFilter()),
    ]


async def assert_unavailable(records: Records) -> None:
    for call in build_calls(records):
        start = time.monotonic()
        with pytest.raises(RecordsUnavailableError) as caught:
            await call()  # type: ignore[misc]
        assert time.monotonic() - start < TIMEOUT_SECONDS * 3
        assert PASSWORD not in str(caught.value)


async def is_back(records: Records) -> bool:
    try:
        await records.ping()
    except RecordsUnavailableError:
        return False
    return True


async def test_a_killed_database_is_reported_at_once_and_used_again_when_back(
    records: Records, server: DatabaseServer
) -> None:
    task = build_task()
    await records.insert_tasks([task])
    server.kill()
    await assert_unavailable(records)
    server.restart()
    await eventually(lambda: is_back(records))
    other = build_task()
    assert await records.insert_tasks([other]) == [Accepted(other.id)]
    assert set(await records.get_many([task.id, other.id])) == {task.id, other.id}


async def test_pooled_connections_that_died_unused_are_replaced_without_an_error(
    records: Records, server: DatabaseServer
) -> None:
    await asyncio.gather(*[records.ping() for _ in range(3)])
    server.kill()
    await asyncio.to_thread(server.restart)  # meanwhile the event loop sees that the connections are closed
    for _ in range(6):
        await records.insert_tasks([build_task()])


async def test_a_database_that_hangs_is_reported_in_bounded_time(records: Records, server: DatabaseServer) -> None:
    await asyncio.gather(*[records.ping() for _ in range(3)])
    stopped = server.pids
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        answers = await asyncio.gather(*[call() for call in build_calls(records)], return_exceptions=True)  # type: ignore[call-overload]
        assert time.monotonic() - start < TIMEOUT_SECONDS * 4
        assert all(isinstance(answer, RecordsUnavailableError) for answer in answers)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    await eventually(lambda: is_back(records))
    task = build_task()
    assert await records.insert_tasks([task]) == [Accepted(task.id)]


async def test_a_group_commit_fails_its_callers_and_goes_on_later(records: Records, server: DatabaseServer) -> None:
    group = GroupCommit(records)
    await group.submit([build_task()])
    server.kill()
    answers = await asyncio.gather(*[group.submit([build_task()]) for _ in range(5)], return_exceptions=True)
    assert all(isinstance(answer, RecordsUnavailableError) for answer in answers)
    server.restart()
    await eventually(lambda: is_back(records))
    assert len(await group.submit([build_task()])) == 1
    await group.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_nothing_listening_is_unavailable(scheme: str) -> None:
    records = await open_records(f"{scheme}://user:secret@127.0.0.1:{free_port()}/x", timeout_seconds=TIMEOUT_SECONDS)
    with pytest.raises(RecordsUnavailableError) as caught:
        await records.migrate()
    assert "secret" not in str(caught.value)
    await records.close()


@pytest.mark.parametrize("url", ["oracle://x/y", "nonsense", "sqlite://", "sqlite:///:memory:", "amqp://x"])
async def test_an_unknown_database_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidInputError):
        await open_records(url)
