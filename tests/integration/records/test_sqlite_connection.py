"""What SQLite's driver may not do to the event loop."""

import asyncio
import gc
import sqlite3
import threading
from pathlib import Path

from sqlalchemy import text
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


async def test_a_write_that_is_cancelled_in_the_middle_frees_the_database(tmp_path: Path) -> None:
    """Whoever still holds its cursor, as the traceback of the cancellation does until garbage is collected."""
    database = open_database(f"sqlite:///{tmp_path}/records.sqlite", pool_size=1, timeout_seconds=5)
    runs, ends = threading.Event(), threading.Event()

    def hold() -> bool:
        runs.set()
        return ends.wait(10)

    async def write() -> None:
        async with database.begin() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            await driver.create_function("hold", 0, hold)
            await connection.execute(text("SELECT hold()"))

    gc.disable()
    try:
        writing = asyncio.create_task(write())
        assert await asyncio.to_thread(runs.wait, 10)
        writing.cancel()
        ends.set()
        await asyncio.wait([writing])
        assert writing.cancelled()
        async with asyncio.timeout(3), database.begin():  # SQLite itself would wait for five
            pass
    finally:
        gc.enable()
    await database.close()
