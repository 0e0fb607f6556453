"""The migrations: up and down on every database, safe with replicas, and exactly the tables that the code uses."""

import asyncio
from uuid import UUID

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from tests.integration.records.samples import build_event, build_task

from taskfleet_api.records import open_records
from taskfleet_api.records.migrating import build_config
from taskfleet_api.records.tables import metadata


def _find_differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": "taskfleet_revision"})
    return list(compare_metadata(context, metadata))


async def test_the_migrated_schema_is_the_one_of_the_code(database_url: str) -> None:
    records = await open_records(database_url, timeout_seconds=30)
    try:
        await records.migrate()
        async with records.database.write.connect() as connection:
            assert await connection.run_sync(_find_differences) == []
    finally:
        await records.close()


async def test_down_leaves_nothing_and_up_again_works(database_url: str) -> None:
    records = await open_records(database_url, timeout_seconds=30)
    try:
        await records.migrate()
        async with records.database.write.connect() as connection:
            await connection.run_sync(lambda sync: command.downgrade(build_config(sync), "base"))
            await connection.commit()
            names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        assert names == ["taskfleet_revision"]
        await records.migrate()
        await records.insert_tasks([build_task()])
    finally:
        await records.close()


async def test_replicas_that_start_together_do_not_race(database_url: str) -> None:
    replicas = [await open_records(database_url, timeout_seconds=30) for _ in range(4)]
    try:
        await asyncio.gather(*[replica.migrate() for replica in replicas])
        await asyncio.gather(*[replica.insert_tasks([build_task()]) for replica in replicas])
        assert await replicas[0].backlog() == 4
    finally:
        for replica in replicas:
            await replica.close()


async def test_a_change_of_the_schema_under_a_running_replica_breaks_no_prepared_statement(postgresql_url: str) -> None:
    records = await open_records(postgresql_url, pool_size=1)
    task = build_task()
    try:
        await records.migrate()
        await records.insert_tasks([task])
        for length in (300, 301):
            await records.mark_queued([task.id])
            assert await records.get(task.id) is not None
            await records.apply_events([build_event(task.id, "running")])
            async with records.database.begin() as connection:
                await connection.execute(text(f"ALTER TABLE tasks ALTER COLUMN worker TYPE varchar({length})"))
        assert type((await records.get_many([task.id])).popitem()[0]) is UUID
        await records.insert_tasks([build_task()])
    finally:
        await records.close()
