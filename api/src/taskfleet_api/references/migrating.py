"""Brings the references' tables to their newest revision; replicas that start together wait for one another."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from taskfleet_api.records.engine import Database

__all__ = ["apply_migrations"]

VERSION_TABLE = "alembic_version_references"
LOCK_NUMBER = 7_203_004  # any constant: PostgreSQL's advisory locks are numbers
LOCK_SECONDS = 60


async def apply_migrations(database: Database) -> None:
    """Upgrade to the newest revision under a lock."""
    async with asyncio.timeout(LOCK_SECONDS), database.write.connect() as connection:
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    dialect = connection.dialect.name
    if dialect == "postgresql":
        # Held to the end of the transaction.
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK_NUMBER})
    elif dialect in ("mysql", "mariadb"):
        connection.execute(text("SELECT GET_LOCK('taskfleet_references', :seconds)"), {"seconds": LOCK_SECONDS})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    try:
        command.upgrade(config, "head")
        connection.commit()
    finally:
        if dialect in ("mysql", "mariadb"):
            connection.execute(text("SELECT RELEASE_LOCK('taskfleet_references')"))
