"""Bringing the schema to the newest revision at start-up, one replica at a time."""

import zlib
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from taskfleet_api.records.engine import Database
from taskfleet_core.errors import RecordsUnavailableError

__all__ = ["build_config", "migrate"]

log = structlog.get_logger()

LOCATION = Path(__file__).parent / "migrations"
LOCK_NAME = "taskfleet-migrations"
LOCK_TIMEOUT_SECONDS = 120


def build_config(connection: Connection, location: Path = LOCATION) -> Config:
    """Alembic's configuration, from nothing but the folder and an open connection."""
    config = Config()
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


async def migrate(database: Database, location: Path = LOCATION, revision: str = "head") -> None:
    """Upgrade under a lock that dies with its connection. Other packages bring their own folder of revisions."""
    async with database.write.connect() as connection:
        await _lock(connection, database)
        try:
            await connection.run_sync(_upgrade, location, revision)
            await connection.commit()
        finally:
            await _unlock(connection, database)


def _upgrade(connection: Connection, location: Path, revision: str) -> None:
    try:
        command.upgrade(build_config(connection, location), revision)
    except CommandError as error:
        if not isinstance(error.__cause__, ResolutionError):
            raise
        # A later version was here and was rolled back. Its revisions only add, so this version can work with them.
        log.warning("schema_is_newer", folder=location.parent.name, error=str(error))


async def _lock(connection: AsyncConnection, database: Database) -> None:
    if database.is_sqlite:
        await connection.execute(text("SELECT 1"))  # the writing transaction begins, with the lock on the file
    if database.is_postgresql:
        await connection.execute(text(f"SET statement_timeout = '{LOCK_TIMEOUT_SECONDS}s'"))
        await connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"))
        await connection.execute(text(f"SELECT pg_advisory_lock({zlib.crc32(LOCK_NAME.encode())})"))
        await connection.commit()
    elif database.is_mysql:
        got = await connection.execute(text(f"SELECT GET_LOCK('{LOCK_NAME}', {LOCK_TIMEOUT_SECONDS})"))
        if got.scalar() != 1:
            raise RecordsUnavailableError("another replica migrates the schema and does not end")


async def _unlock(connection: AsyncConnection, database: Database) -> None:
    if connection.invalidated or not (database.is_postgresql or database.is_mysql):
        return
    await connection.rollback()
    if database.is_postgresql:
        await connection.execute(text(f"SELECT pg_advisory_unlock({zlib.crc32(LOCK_NAME.encode())})"))
        await connection.execute(text("RESET statement_timeout"))
        await connection.execute(text("RESET lock_timeout"))
    else:
        await connection.execute(text(f"SELECT RELEASE_LOCK('{LOCK_NAME}')"))
    await connection.commit()
