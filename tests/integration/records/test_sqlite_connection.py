"""What SQLite's driver may not do to the event loop."""

import asyncio
import sqlite3
from pathlib import Path

from tests.support.waiting import eventually

from taskfleet_api.records.engine import open_database


async def test_a_transaction_that_is_cancelled_twice_leaves_nothing_that_cannot_end(tmp_path: Path) -> None:
    """As happens to what a replica is doing when it is told to stop, in a database that is slow at that moment."""
    database = open_database(f"sqlite:///{tmp_path}/records.sqlite", pool_size=1, timeout_seconds=5)
    async with database.begin():
        pass
    holder = sqlite3.connect(tmp_path / "records.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    async def write() -> None:
        async with database.begin():
            pass

    before = asyncio.all_tasks()
    writing = asyncio.create_task(write())
    await eventually(lambda: database.write.pool.checkedout() == 1)
    for _ in range(2):
        writing.cancel()
        await asyncio.wait([writing], timeout=0.1)
    left = asyncio.all_tasks() - before
    for task in left:
        task.cancel()
    holder.close()
    _, pending = await asyncio.wait([writing, *left], timeout=5)
    assert left
    assert not pending
    await database.close()
