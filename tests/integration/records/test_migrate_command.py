"""`python -m taskfleet_api.migrate`: waits for the database, lets replicas run it together, and ends."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT, Process

import pytest
from tests.support.databases import PostgreSQL

from taskfleet_api.records import open_records

LIMIT_SECONDS = 60


async def start(url: str, **settings: str) -> Process:
    environment = {**os.environ, "TASKFLEET_API_DATABASE_URL": url, **settings}
    command = (sys.executable, "-m", "taskfleet_api.migrate")
    return await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=STDOUT)


async def finish(process: Process) -> str:
    """Its log; it must have succeeded."""
    output, _ = await asyncio.wait_for(process.communicate(), LIMIT_SECONDS)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.parametrize("references", ["", "003,004"])
async def test_replicas_that_start_together_all_succeed(postgresql_url: str, references: str) -> None:
    processes = [await start(postgresql_url, TASKFLEET_API_REFERENCES=references) for _ in range(3)]
    for process in processes:
        assert "schema_is_current" in await finish(process)
    records = await open_records(postgresql_url)
    try:
        await records.ping()
        assert await records.load_queues() == []
    finally:
        await records.close()


async def test_a_database_that_is_not_there_yet_is_waited_for(postgresql: PostgreSQL, postgresql_url: str) -> None:
    await asyncio.to_thread(postgresql.kill)
    try:
        process = await start(postgresql_url)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), LIMIT_SECONDS)
        assert b"database_not_ready" in line
    finally:
        await asyncio.to_thread(postgresql.restart)
    assert "schema_is_current" in await finish(process)


async def test_a_url_that_no_driver_speaks_is_an_error_and_no_endless_wait() -> None:
    process = await start("oracle://database/records")
    output, _ = await asyncio.wait_for(process.communicate(), LIMIT_SECONDS)
    assert process.returncode
    assert b"database_url" in output
