"""The one way into the SQL records for every other package: open, migrate, use, close.

Every method is one transaction with a time limit and raises RecordsUnavailableError when the database does not answer.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from taskfleet_api.records.model import (
    ApplyResult,
    CancelOutcome,
    NewTask,
    Outcome,
    Page,
    ScheduleRecord,
    TaskFilter,
    TaskRecord,
)
from taskfleet_core.events import QueueRegistration, TaskEvent

__all__ = ["Records", "open_records"]


class Records:
    """The records of one database. Made by `open_records`; safe for concurrent use within one event loop."""

    async def close(self) -> None:
        """Close every connection; the object is of no use afterwards."""
        raise NotImplementedError

    async def migrate(self) -> None:
        """Bring the schema to the newest revision; replicas that start together wait for one another."""
        raise NotImplementedError

    async def ping(self) -> None:
        """Return if the database answers."""
        raise NotImplementedError

    # Submitting

    async def insert_tasks(self, tasks: Sequence[NewTask], *, atomic: bool = False) -> list[Outcome]:
        """Record the tasks in one transaction and say what became of each, in order.

        With `atomic` a used idempotency key raises KeyConflictError and nothing is recorded.
        """
        raise NotImplementedError

    # Publishing

    async def mark_queued(
        self, ids: Sequence[UUID], attempts: int | Mapping[UUID, int] = 1, *, now: datetime | None = None
    ) -> int:
        """Note that the messages of these attempts are confirmed by the broker; never moves a task backwards."""
        raise NotImplementedError

    async def claim_due(self, now: datetime, limit: int, lease_seconds: float) -> list[TaskRecord]:
        """Scheduled, pending and retrying tasks that are due; no other caller gets them for `lease_seconds`."""
        raise NotImplementedError

    async def expire_due(self, now: datetime, limit: int) -> list[tuple[UUID, str]]:
        """Expire open tasks that no worker runs and whose time is over; returns their ids and queues."""
        raise NotImplementedError

    async def backlog(self, limit: int = 100_001) -> int:
        """How many tasks are accepted but not yet published, counted up to `limit`."""
        raise NotImplementedError

    # Recording

    async def apply_events(self, events: Sequence[TaskEvent]) -> ApplyResult:
        """Bring the records up to what the events say. Idempotent, in any order, never backwards."""
        raise NotImplementedError

    # Reading

    async def get(self, task_id: UUID) -> TaskRecord | None:
        """The record with its earlier attempts."""
        raise NotImplementedError

    async def get_many(self, ids: Sequence[UUID]) -> dict[UUID, TaskRecord]:
        """The records that exist, without their earlier attempts."""
        raise NotImplementedError

    async def list_tasks(self, wanted: TaskFilter, cursor: str | None = None, limit: int = 50) -> Page:
        """One page, newest first. Raises InvalidInputError for a cursor of another filter."""
        raise NotImplementedError

    async def queue_counts(self) -> dict[str, dict[str, int]]:
        """Per queue, how many tasks are in each open state and dead."""
        raise NotImplementedError

    # Commanding

    async def cancel(self, task_id: UUID, *, now: datetime | None = None) -> CancelOutcome:
        """Cancel what is not published yet; ask for the cancellation of what is."""
        raise NotImplementedError

    async def finish_cancelled(self, task_id: UUID, *, now: datetime | None = None) -> bool:
        """Make an open task that no worker runs `cancelled`; whether it was so."""
        raise NotImplementedError

    async def start_attempt(self, ids: Sequence[UUID], now: datetime) -> list[TaskRecord]:
        """Start the next attempt of failed, dead, cancelled and expired tasks; others are left out of the answer."""
        raise NotImplementedError

    async def dead_ids(self, queue: str, limit: int) -> list[UUID]:
        """The oldest dead tasks of a queue."""
        raise NotImplementedError

    async def purge_dead(self, queue: str) -> int:
        """Delete the dead tasks of a queue, in batches; how many there were."""
        raise NotImplementedError

    async def stale_open(self, queue: str, older_than: datetime, limit: int) -> list[TaskRecord]:
        """Published tasks that are not final and of which nothing was heard since `older_than`."""
        raise NotImplementedError

    async def republish(
        self, ids: Sequence[UUID], now: datetime, *, older_than: datetime | None = None
    ) -> list[TaskRecord]:
        """Start the next attempt, due now, of published open tasks (still stale, if `older_than` is given)."""
        raise NotImplementedError

    # Retention

    async def delete_finished(self, older_than: datetime, limit: int) -> int:
        """Delete one batch of tasks that finished before; with attempts, labels and keys. How many."""
        raise NotImplementedError

    async def delete_keys(self, older_than: datetime, limit: int) -> int:
        """Delete one batch of idempotency keys used before."""
        raise NotImplementedError

    async def delete_ticks(self, older_than: datetime, limit: int) -> int:
        """Delete one batch of schedule ticks noted before."""
        raise NotImplementedError

    # Schedules

    async def put_schedule(self, schedule: ScheduleRecord) -> bool:
        """Create or replace; whether it was created. Keeps created_at and the last tick of the existing one."""
        raise NotImplementedError

    async def get_schedule(self, schedule_id: str) -> ScheduleRecord | None:
        """The schedule, if there is one."""
        raise NotImplementedError

    async def list_schedules(self, after: str | None = None, limit: int = 100) -> list[ScheduleRecord]:
        """Schedules by id, those behind `after`."""
        raise NotImplementedError

    async def delete_schedule(self, schedule_id: str) -> bool:
        """Delete it; whether there was one."""
        raise NotImplementedError

    async def claim_ticks(self, now: datetime, limit: int = 100) -> list[ScheduleRecord]:
        """Unpaused schedules whose next tick is due. No claim is held: `insert_tick_tasks` decides."""
        raise NotImplementedError

    async def insert_tick_tasks(
        self, schedule_id: str, tick_at: datetime, next_at: datetime | None, task: NewTask | None
    ) -> bool:
        """Record the task of one tick and move the schedule on; False if any replica did this or a later tick.

        Without a task the ticks up to `tick_at` are skipped.
        """
        raise NotImplementedError

    # The copy of registry and catalog

    async def save_queues(self, registrations: Sequence[QueueRegistration]) -> None:
        """Create or replace the copies of these registrations."""
        raise NotImplementedError

    async def load_queues(self) -> list[QueueRegistration]:
        """Every registration that was saved."""
        raise NotImplementedError

    async def delete_queue(self, queue: str) -> bool:
        """Forget a queue and its catalog; whether it was known."""
        raise NotImplementedError

    async def save_catalog(self, queue: str, catalog: Mapping[str, Any]) -> None:
        """Create or replace the copy of the task names and parameter schemas of a queue."""
        raise NotImplementedError

    async def load_catalogs(self) -> dict[str, dict[str, Any]]:
        """The catalogs by queue."""
        raise NotImplementedError


async def open_records(
    url: str,
    *,
    pool_size: int = 8,
    timeout_seconds: float = 10.0,
    republish_grace_seconds: float = 10.0,
) -> Records:
    """Connect lazily to the database of a `postgresql://`, `mysql://` or `sqlite:///path` URL."""
    raise NotImplementedError
