"""The version before and this one side by side, in both orders, on one installation under load.

`previous.tar.xz` holds the sources of that version (`hack/save-previous`), and runs with today's requirements.
"""

import asyncio
from collections.abc import Iterator, Mapping

import pytest
from sqlalchemy import text
from tests.support.ledger import Cause
from tests.support.stack import WORKER_APP_DIRECTORY, QueueOptions, Stack, StackOptions
from tests.support.task_api import TaskApi
from tests.upgrades.load import KINDS, QUEUE, UpgradeLoad
from tests.upgrades.previous import unpack_previous

from taskfleet_api.records import open_records

pytestmark = pytest.mark.timeout(180, func_only=True)


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Variables that start the version before."""
    folder = unpack_previous(tmp_path_factory.mktemp("previous"))
    paths = [folder / part / "src" for part in ("api", "core", "worker")]
    return {"PYTHONPATH": ":".join(map(str, [*paths, WORKER_APP_DIRECTORY]))}


@pytest.fixture(scope="module")
def upgraded(previous: Mapping[str, str]) -> Iterator[Stack]:
    """An installation of the version before: one API, one worker."""
    stack = Stack(StackOptions(environment={"republish_grace_seconds": "2"}))
    try:
        stack.start(api=False)
        stack.add_api(variables=previous)
        stack.add_queue(QUEUE, QueueOptions(concurrency=4))
        stack.start_worker(QUEUE, env=previous)
        yield stack
    finally:
        stack.stop()


def test_versions_side_by_side_lose_no_task_and_no_request(upgraded: Stack, previous: Mapping[str, str]) -> None:
    with UpgradeLoad(upgraded) as load:
        load.wait_for_more()
        replace_worker(upgraded)  # workers first: the old API and a new worker
        load.wait_for_more()
        new = upgraded.add_api()  # it migrates the schema under the old one
        load.replicas = [0, new]
        load.wait_for_more()
        replace_worker(upgraded, previous)  # and with a worker that went back, both APIs and then the new one alone
        load.wait_for_more()
        load.replicas = [new]
        assert upgraded.stop_api(0) == 0
        load.wait_for_more()
        replace_worker(upgraded)
        load.wait_for_more()

    account, records = load.settle(new)
    assert load.refused == []
    assert min(load.by_kind[kind] for kind in KINDS) > 10
    assert (account.lost, account.untold) == ((), ()), str(account)
    assert account.states == {"succeeded": len(load.accepted)}, str(account)
    attempts = {
        kind: {each["attempt"] for each in records.values() if each["metadata"]["kind"] == kind} for kind in KINDS
    }
    assert attempts == {"now": {1}, "later": {1}, "retried": {2}}
    assert set(account.duplicates) <= {Cause.NEXT_ATTEMPT}, str(account)


def test_a_version_that_went_back_works_on_the_schema_of_the_next(upgraded: Stack) -> None:
    """The next version's migration only adds; then this version is started again on it."""
    asyncio.run(asyncio.wait_for(add_next_revision(upgraded.database_url), 30))
    upgraded.start_api(0)
    api = TaskApi(upgraded.client(0))
    assert api.run(QUEUE, "jobs.add", 20, 22)["result"] == 42
    assert api.wait(api.submit(QUEUE, "jobs.add", 1, 2, countdown_seconds=1)["id"])["result"] == 3


def replace_worker(stack: Stack, version: Mapping[str, str] | None = None) -> None:
    """Start one of that version, then stop the others, as a Deployment does."""
    others = list(stack.workers)
    stack.start_worker(QUEUE, env=version)
    for worker in others:
        assert worker.process.terminate(40) == 0
        stack.workers.remove(worker)


async def add_next_revision(url: str) -> None:
    """What a later version may do to the schema: add a table and columns that may be empty."""
    records = await open_records(url)
    try:
        async with records.database.begin() as connection:
            await connection.execute(text("ALTER TABLE tasks ADD COLUMN of_the_next_version VARCHAR(10) NULL"))
            await connection.execute(text("CREATE TABLE of_the_next_version (id INTEGER PRIMARY KEY)"))
            await connection.execute(text("UPDATE taskfleet_revision SET version_num = '9999'"))
    finally:
        await records.close()
