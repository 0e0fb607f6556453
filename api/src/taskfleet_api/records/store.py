"""The one way into the SQL records for every other package: open, migrate, use, close.

Every method is one transaction with a time limit and raises RecordsUnavailableError when the database does not answer.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from sqlalchemy import text

from taskfleet_api.records import (
    callbacks,
    commanding,
    history,
    keys,
    migrating,
    publishing,
    querying,
    queues,
    recording,
    retention,
    schedules,
    submitting,
)
from taskfleet_api.records.callbacks import CallbackLease
from taskfleet_api.records.engine import Database, open_database
from taskfleet_api.records.model import (
    ApplyResult,
    CallbackRecord,
    CancelOutcome,
    KeyRecord,
    NewTask,
    Outcome,
    Page,
    ScheduleRecord,
    TaskFilter,
    TaskRecord,
)
from taskfleet_api.records.sampling import QueueSample
from taskfleet_core.events import QueueRegistration, TaskEvent

__all__ = ["Records", "open_records"]

P = ParamSpec("P")
T = TypeVar("T")

MIGRATION_TIMEOUT_SECONDS = 300


class Records:
    """The records of one database. Made by `open_records`; safe for concurrent use within one event loop."""

    def __init__(self, database: Database, republish_grace_seconds: float) -> None:
        self.database = database
        self._grace = timedelta(seconds=republish_grace_seconds)

    async def _run(
        self,
        doing: str,
        work: Callable[Concatenate[Database, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self.database.run(doing, lambda: work(self.database, *args, **kwargs))

    async def close(self) -> None:
        """Close every connection; the object is of no use afterwards."""
        await self.database.close()

    async def migrate(self) -> None:
        """Bring the schema to the newest revision; replicas that start together wait for one another."""
        await self.database.run(
            "migrating", lambda: migrating.migrate(self.database), timeout_seconds=MIGRATION_TIMEOUT_SECONDS
        )

    async def ping(self) -> None:
        """Return if the database answers."""

        async def ask() -> None:
            async with self.database.connect() as connection:
                await connection.execute(text("SELECT 1"))

        await self.database.run("asking", ask)

    # Submitting

    async def insert_tasks(self, tasks: Sequence[NewTask], *, atomic: bool = False) -> list[Outcome]:
        """Record the tasks in one transaction and say what became of each, in order.

        With `atomic` a used idempotency key raises KeyConflictError and nothing is recorded.
        """
        for task in tasks:
            submitting.check_task(task)
        return await self._run("recording submissions", submitting.insert_tasks, tasks, self._grace, atomic=atomic)

    # Publishing

    async def mark_queued(
        self, ids: Sequence[UUID], attempts: int | Mapping[UUID, int] = 1, *, now: datetime | None = None
    ) -> int:
        """Note that the messages of these attempts are confirmed by the broker; never moves a task backwards."""
        now = now or datetime.now(UTC)
        return await self._run("marking tasks queued", publishing.mark_queued, ids, attempts, now)

    async def claim_due(self, now: datetime, limit: int, lease_seconds: float) -> list[TaskRecord]:
        """Scheduled, pending and retrying tasks that are due; no other caller gets them for `lease_seconds`."""
        return await self._run("claiming due tasks", publishing.claim_due, now, limit, lease_seconds)

    async def expire_due(self, now: datetime, limit: int) -> list[tuple[UUID, str]]:
        """Expire open tasks that no worker runs and whose time is over; returns their ids and queues."""
        return await self._run("expiring tasks", publishing.expire_due, now, limit)

    async def backlog(self, limit: int = 100_001) -> int:
        """How many tasks are accepted but not yet published, counted up to `limit`."""
        return await self._run("counting the backlog", publishing.count_backlog, limit)

    # Recording

    async def apply_events(self, events: Sequence[TaskEvent]) -> ApplyResult:
        """Bring the records up to what the events say. Idempotent, in any order, never backwards."""
        return await self.database.run(
            "applying events", lambda: recording.apply_events(self.database, events, datetime.now(UTC))
        )

    # Reading

    async def get(self, task_id: UUID) -> TaskRecord | None:
        """The record with its callback and earlier attempts."""
        return await self._run("reading a task", querying.fetch_record, task_id)

    async def get_many(self, ids: Sequence[UUID]) -> dict[UUID, TaskRecord]:
        """The records that exist, without their earlier attempts."""
        return await self._run("reading tasks", querying.fetch_many, ids)

    async def list_tasks(self, wanted: TaskFilter, cursor: str | None = None, limit: int = 50) -> Page:
        """One page, newest first. Raises InvalidInputError for a cursor of another filter."""
        return await self._run("listing tasks", querying.list_tasks, wanted, cursor, limit)

    async def queue_counts(self) -> dict[str, dict[str, int]]:
        """Per queue, how many tasks are in each open state and dead."""
        return await self._run("counting tasks", querying.count_queues)

    async def count_unfinished(self, *, by_caller: bool) -> dict[tuple[str, str], int]:
        """How many tasks have not ended, by queue and, if wanted, principal (else "")."""
        return await self._run("counting unfinished tasks", querying.count_unfinished, by_caller)

    # Commanding

    async def cancel(self, task_id: UUID, *, now: datetime | None = None) -> CancelOutcome:
        """Cancel what is not published yet; ask for the cancellation of what is."""
        now = now or datetime.now(UTC)
        return await self._run("cancelling a task", commanding.cancel, task_id, now)

    async def finish_cancelled(self, task_id: UUID, *, now: datetime | None = None) -> bool:
        """Make an open task that no worker runs `cancelled`; whether it was so."""
        now = now or datetime.now(UTC)
        return await self._run("cancelling a task", commanding.finish_cancelled, task_id, now)

    async def start_attempt(self, ids: Sequence[UUID], now: datetime) -> list[TaskRecord]:
        """Start the next attempt of failed, dead, cancelled and expired tasks; others are left out of the answer."""
        return await self._run("starting attempts", commanding.start_attempt, ids, now, self._grace)

    async def dead_ids(self, queue: str, limit: int) -> list[UUID]:
        """The oldest dead tasks of a queue."""
        return await self._run("reading dead tasks", commanding.fetch_dead_ids, queue, limit)

    async def purge_dead(self, queue: str) -> int:
        """Delete the dead tasks of a queue, in batches; how many there were."""
        purged = 0
        while count := await self._run("purging", commanding.purge_dead, queue):
            purged += count
        return purged

    async def stale_open(self, queue: str, older_than: datetime, limit: int) -> list[TaskRecord]:
        """Published tasks that are not final and of which nothing was heard since `older_than`."""
        return await self._run("reading stale tasks", commanding.fetch_stale, queue, older_than, limit)

    async def republish(
        self, ids: Sequence[UUID], now: datetime, *, older_than: datetime | None = None
    ) -> list[TaskRecord]:
        """Start the next attempt, due now, of published open tasks (still stale, if `older_than` is given)."""
        return await self._run("starting attempts", commanding.republish, ids, now, older_than)

    # Callbacks

    async def claim_callbacks(self, now: datetime, lease: CallbackLease) -> list[CallbackRecord]:
        """Callbacks that are due, their next call counted; no other replica gets them before the lease ends."""
        return await self._run("claiming callbacks", callbacks.claim, now, lease)

    async def settle_callback(self, record: CallbackRecord) -> bool:
        """Write what came of a call; False when somebody else has the callback by now."""
        return await self._run("writing a callback", callbacks.settle, record)

    async def review_callbacks(
        self, after: tuple[datetime, UUID] | None, limit: int, now: datetime
    ) -> tuple[int, tuple[datetime, UUID] | None]:
        """Look in one page of waiting callbacks for tasks that have ended; how many, and where to go on."""
        return await self._run("reviewing callbacks", callbacks.review, after, limit, now)

    # Retention

    async def delete_finished(self, older_than: datetime, limit: int) -> int:
        """Delete one batch of tasks that finished before; with attempts, labels and keys. How many."""
        return await self._run("deleting old tasks", retention.delete_finished, older_than, limit)

    async def delete_keys(self, older_than: datetime, limit: int) -> int:
        """Delete one batch of idempotency keys used before."""
        return await self._run("deleting old keys", retention.delete_keys, older_than, limit)

    async def delete_ticks(self, older_than: datetime, limit: int) -> int:
        """Delete one batch of schedule ticks noted before."""
        return await self._run("deleting old ticks", retention.delete_ticks, older_than, limit)

    # Schedules

    async def put_schedule(
        self, schedule: ScheduleRecord, may_replace: Callable[[str], bool] = lambda _queue: True
    ) -> bool | None:
        """Create or replace; whether it was created. Keeps created_at and the last tick of the existing one.

        None: there is one, and `may_replace` says no to its queue.
        """
        return await self._run("saving a schedule", schedules.put_schedule, schedule, may_replace)

    async def get_schedule(self, schedule_id: str) -> ScheduleRecord | None:
        """The schedule, if there is one."""
        return await self._run("reading a schedule", schedules.fetch_schedule, schedule_id)

    async def list_schedules(self, after: str | None = None, limit: int = 100) -> list[ScheduleRecord]:
        """Schedules by id, those behind `after`."""
        return await self._run("reading schedules", schedules.list_schedules, after, limit)

    async def delete_schedule(self, schedule_id: str) -> bool:
        """Delete it; whether there was one."""
        return await self._run("deleting a schedule", schedules.delete_schedule, schedule_id)

    async def claim_ticks(self, now: datetime, limit: int = 100) -> list[ScheduleRecord]:
        """Unpaused schedules whose next tick is due. No claim is held: `insert_tick_tasks` decides."""
        return await self._run("reading due schedules", schedules.fetch_due_schedules, now, limit)

    async def insert_tick_tasks(
        self, schedule_id: str, tick_at: datetime, next_at: datetime | None, task: NewTask | None
    ) -> bool:
        """Record the task of one tick and move the schedule on; False if any replica did this or a later tick.

        Without a task the ticks up to `tick_at` are skipped.
        """
        if task is not None:
            submitting.check_task(task)
        return await self._run(
            "recording a tick", schedules.insert_tick_tasks, schedule_id, tick_at, next_at, task, self._grace
        )

    # The history of the queues

    async def has_interval(self, step_seconds: int, at: datetime) -> bool:
        """Whether the interval that begins at `at` is written."""
        return await self._run("reading the history", history.has_interval, step_seconds, at)

    async def save_interval(self, step_seconds: int, at: datetime, samples: Sequence[QueueSample]) -> bool:
        """Write an interval; False when any replica has done so. Queues left out are those where nothing was."""
        return await self._run("writing the history", history.save_interval, step_seconds, at, samples)

    async def fetch_intervals(self, step_seconds: int, since: datetime, until: datetime) -> list[datetime]:
        """The beginnings of the written intervals in [since, until)."""
        return await self._run("reading the history", history.fetch_intervals, step_seconds, since, until)

    async def fetch_samples(
        self, names: Sequence[str], step_seconds: int, since: datetime, until: datetime, *, lean: bool = False
    ) -> list[QueueSample]:
        """The samples in [since, until) of these queues, by queue and time. `lean`: only their depth and ends."""
        return await self._run(
            "reading the history", history.fetch_samples, names, step_seconds, since, until, lean=lean
        )

    async def fetch_oldest(self, names: Sequence[str]) -> dict[str, datetime]:
        """Since when the task at the broker that was accepted first has been there, of the queues that have one."""
        return await self._run("reading the oldest tasks", history.fetch_oldest, names)

    async def delete_intervals(self, step_seconds: int, older_than: datetime, limit: int) -> int:
        """Delete up to `limit` intervals of this length that began before; how many."""
        return await self._run("deleting old history", history.delete_intervals, step_seconds, older_than, limit)

    # API keys

    async def add_key(self, key: KeyRecord, digest: bytes) -> bool:
        """Keep a key by its digest; False when its name is taken."""
        return await self._run("saving a key", keys.add_key, key, digest)

    async def fetch_key(self, digest: bytes) -> KeyRecord | None:
        """The key with this digest, expired ones too."""
        return await self._run("reading a key", keys.fetch_key, digest)

    async def list_keys(self) -> list[KeyRecord]:
        """All keys by name."""
        return await self._run("reading keys", keys.list_keys)

    async def delete_key(self, name: str) -> bool:
        """Forget a key; whether there was one."""
        return await self._run("deleting a key", keys.delete_key, name)

    # The copy of registry and catalog

    async def save_queues(self, registrations: Sequence[QueueRegistration]) -> None:
        """Create or replace the copies of these registrations."""
        now = datetime.now(UTC)
        return await self._run("saving queues", queues.save_queues, registrations, now)

    async def load_queues(self) -> list[QueueRegistration]:
        """Every registration that was saved."""
        return await self._run("reading queues", queues.load_queues)

    async def delete_queues(self, names: Sequence[str]) -> int:
        """Forget queues and their catalogs, in one transaction; how many were known."""
        return await self._run("deleting queues", queues.delete_queues, names)

    async def save_catalog(self, queue: str, catalog: Mapping[str, Any]) -> None:
        """Create or replace the copy of the task names and parameter schemas of a queue."""
        now = datetime.now(UTC)
        await self._run("saving a catalog", queues.save_catalog, queue, catalog, now)

    async def load_catalogs(self) -> dict[str, dict[str, Any]]:
        """The catalogs by queue."""
        return await self._run("reading catalogs", queues.load_catalogs)


async def open_records(
    url: str,
    *,
    pool_size: int = 8,
    timeout_seconds: float = 10.0,
    republish_grace_seconds: float = 10.0,
) -> Records:
    """Connect lazily to the database of a `postgresql://`, `mysql://` or `sqlite:///path` URL.

    No call takes much longer than `timeout_seconds`. What is accepted but not marked as queued
    `republish_grace_seconds` later is published by the sweeper.
    """
    database = open_database(url, pool_size=pool_size, timeout_seconds=timeout_seconds)
    return Records(database, republish_grace_seconds)
