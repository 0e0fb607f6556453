"""Retention: deletes finished records, used keys, noted ticks and history once they are old, in small batches."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog

from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.records import Records
from taskfleet_api.records.sampling import STEPS_SECONDS, find_age
from taskfleet_api.telemetry import counter

__all__ = ["Retention"]

log = structlog.get_logger()

PAUSE_SECONDS = 0.2  # between full batches, so that submissions come first

INTERVALS_BATCH = 20  # each with a sample of every queue at work


class Retention:
    """Each step deletes at most one batch of each kind."""

    def __init__(self, records: Records, options: BackgroundOptions) -> None:
        self._records = records
        self._options = options

    async def step(self) -> float:
        """Delete; the next batch soon while there is more."""
        now = datetime.now(UTC)
        old = now - timedelta(days=self._options.retention_days)
        finished = await self._records.delete_finished(old, self._options.retention_batch)
        if finished:
            counter("taskfleet_retention_deleted_total").inc(finished)
            log.info("records_deleted", tasks=finished, older_than=old.isoformat())
        keys_old = now - timedelta(seconds=self._options.idempotency_ttl_seconds)
        keys = await self._delete(self._records.delete_keys, keys_old)
        ticks = await self._delete(self._records.delete_ticks, old)
        is_full = self._options.retention_batch in (finished, keys, ticks)
        for step_seconds in STEPS_SECONDS:
            age = find_age(step_seconds, self._options.history_days)
            deleted = await self._records.delete_intervals(step_seconds, now - age, INTERVALS_BATCH)
            is_full = is_full or deleted == INTERVALS_BATCH
        return PAUSE_SECONDS if is_full else self._options.retention_interval_seconds

    async def _delete(self, delete: Callable[[datetime, int], Awaitable[int]], older_than: datetime) -> int:
        return await delete(older_than, self._options.retention_batch)
