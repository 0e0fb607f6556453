"""Every test of this folder runs on SQLite, PostgreSQL and MariaDB, on a schema that the migrations made."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.databases import DatabaseServer, MariaDB, PostgreSQL

from taskfleet_api.records import Records, open_records


async def _migrate(url: str) -> None:
    records = await open_records(url, timeout_seconds=30)
    try:
        await records.migrate()
    finally:
        await records.close()


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: PostgreSQL) -> str:
    """The URL of a database that is emptied for each test, which is much quicker than making one."""
    url = postgresql.create_database()
    asyncio.run(_migrate(url))
    return url


@pytest.fixture(scope="session")
def migrated_mariadb(mariadb: MariaDB) -> str:
    """The same on MariaDB."""
    url = mariadb.create_database()
    asyncio.run(_migrate(url))
    return url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    return path


TABLES = [
    "tasks",
    "task_attempts",
    "task_labels",
    "idempotency_keys",
    "schedules",
    "schedule_ticks",
    "queues",
    "api_keys",
    "callbacks",
    "queue_samples",
    "sampled_intervals",
]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def migrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty migrated database on each of the three."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "records.sqlite")
        yield f"sqlite:///{tmp_path / 'records.sqlite'}"
    else:
        url = request.getfixturevalue(f"migrated_{request.param}")
        server: DatabaseServer = request.getfixturevalue(request.param)
        server.execute(";".join(f"DELETE FROM {table}" for table in TABLES), url)
        yield url


@pytest.fixture
async def records(migrated_url: str) -> AsyncIterator[Records]:
    """The records of an empty database."""
    opened = await open_records(migrated_url, pool_size=4)
    yield opened
    await opened.close()


@pytest.fixture
async def replica(migrated_url: str) -> AsyncIterator[Records]:
    """The records of the same database in another API replica."""
    opened = await open_records(migrated_url, pool_size=4)
    yield opened
    await opened.close()
