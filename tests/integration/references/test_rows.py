"""The references' tables on each database: made by the migration, as the statements expect them."""

import asyncio
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Table

from taskfleet_api.records.engine import Database, open_database
from taskfleet_api.references.migrating import VERSION_TABLE, apply_migrations
from taskfleet_api.references.rows import Rows
from taskfleet_api.references.tables import async_tasks, metadata, now_utc, processing_tasks


@pytest.fixture
async def database(database_url: str) -> Any:
    opened = open_database(database_url, pool_size=4, timeout_seconds=10)
    await asyncio.gather(*(apply_migrations(opened) for _ in range(3)))
    yield opened
    await opened.close()


def common(**values: Any) -> dict[str, Any]:
    return {"status": "PENDING", "created_at": now_utc(), "updated_at": now_utc(), **values}


async def test_the_migration_makes_exactly_the_tables(database: Database) -> None:
    """Replicas that start together migrate once."""

    def compare(connection: Connection) -> list[Any]:
        options = {"version_table": VERSION_TABLE, "include_name": lambda name, kind, _: is_ours(name, kind)}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    def is_ours(name: str | None, kind: str) -> bool:
        return kind != "table" or name in metadata.tables

    async with database.connect() as connection:
        assert await connection.run_sync(compare) == []


async def test_a_row_is_inserted_read_changed_and_deleted(database: Database) -> None:
    rows = Rows(database, processing_tasks)
    first, second = [await rows.insert(common(name=name)) for name in ("a", "ü 🙂")]
    assert second == first + 1
    row = await rows.fetch(second)
    assert row is not None
    assert (row["name"], row["record_id"]) == ("ü 🙂", None)
    assert [r["id"] for r in await rows.fetch_page(0, 10)] == [first, second]
    assert await rows.update(first, {"status": "FAILED"}, while_status="PENDING")
    assert not await rows.update(first, {"status": "COMPLETED"}, while_status="PENDING")
    assert [r["id"] for r in await rows.fetch_with_status(("PENDING",), None, 10)] == [second]
    assert await rows.fetch_with_status(("PENDING",), second, 10) == []
    assert await rows.delete(second)
    assert not await rows.delete(second)
    assert await rows.insert(common(name="c")) > second


@pytest.mark.parametrize("value", [None, {}, {"priority": "high", "n": [1, 2.5, None, {"ü": "🙂"}]}])
async def test_metadata_comes_back_as_it_was(database: Database, value: Any) -> None:
    rows = Rows(database, async_tasks)
    row_id = await rows.insert(common(id="0b5f6a2e", title="t", description="d", metadata=value))
    row = await rows.fetch(row_id)
    assert row is not None
    assert row["metadata"] == value


@pytest.mark.parametrize("table", [processing_tasks, async_tasks], ids=lambda table: table.name)
async def test_times_keep_their_microseconds(database: Database, table: Table) -> None:
    rows, now = Rows(database, table), now_utc()
    extra = {"name": "x"} if table is processing_tasks else {"id": "x", "title": "x", "description": "x"}
    row = await rows.fetch(await rows.insert({**common(**extra), "updated_at": now}))
    assert row is not None
    assert row["updated_at"] == now
