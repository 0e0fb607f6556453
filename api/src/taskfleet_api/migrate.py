"""`python -m taskfleet_api.migrate`: waits for the database and brings its schema to the newest revision, then ends.

On Kubernetes this runs before each replica of the API. A lock lets one of them migrate; the others find nothing to do.
"""

import asyncio
import sys

import structlog

from taskfleet_api.records import Records, open_records
from taskfleet_api.settings import Settings
from taskfleet_api.telemetry import configure_logging
from taskfleet_core.errors import RecordsUnavailableError, TaskfleetError

__all__ = ["main", "migrate"]

RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 5.0

log = structlog.get_logger()


async def migrate(settings: Settings) -> None:
    """Migrate the records and the tables of the references that are switched on; an absent database is waited for."""
    pause = RETRY_SECONDS
    while True:
        try:
            await _migrate_once(settings)
        except RecordsUnavailableError as error:
            log.warning("database_not_ready", error=str(error), retry_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_RETRY_SECONDS)
        else:
            log.info("schema_is_current")
            return


async def _migrate_once(settings: Settings) -> None:
    records = await open_records(settings.database_address, republish_grace_seconds=settings.republish_grace_seconds)
    try:
        await records.migrate()
        if settings.references:
            await _migrate_references(records)
    finally:
        await records.close()


async def _migrate_references(records: Records) -> None:
    # Imported here: most installations switch no reference on, and their routers take a while to import.
    from taskfleet_api.references.migrating import apply_migrations

    await apply_migrations(records.database)


def main() -> int:
    """Entry point; the exit status is 1 when the schema cannot be migrated at all."""
    settings = Settings()
    configure_logging(settings.log_format, settings.log_level)
    try:
        asyncio.run(migrate(settings))
    except TaskfleetError as error:
        log.error("migration_failed", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
