"""What people and the lease do to tasks: cancel, start the next attempt, delete the dead. Each locks its rows first."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, cast, literal, select, update

from taskfleet_api.records.archiving import archive_attempts
from taskfleet_api.records.callbacks import mark_ended
from taskfleet_api.records.engine import Database
from taskfleet_api.records.model import CancelOutcome, TaskRecord
from taskfleet_api.records.querying import RECORD_COLUMNS, build_record
from taskfleet_api.records.retention import delete_by_ids
from taskfleet_api.records.tables import tasks
from taskfleet_api.records.texts import chunked
from taskfleet_core.states import ATTEMPT_SPAN, FINAL_OFFSET, TaskState, position

__all__ = [
    "FINAL_POSITION",
    "cancel",
    "fetch_dead_ids",
    "fetch_stale",
    "finish_cancelled",
    "purge_dead",
    "republish",
    "start_attempt",
]

# 64 bits before multiplying: PostgreSQL would compute in the 32 bits of `attempt`.
_ATTEMPT_BASE = cast(tasks.c.attempt, BigInteger) * ATTEMPT_SPAN
FINAL_POSITION = _ATTEMPT_BASE + FINAL_OFFSET

REPEATABLE = (TaskState.FAILED, TaskState.DEAD, TaskState.CANCELLED, TaskState.EXPIRED)
PUBLISHED = (TaskState.QUEUED, TaskState.RUNNING, TaskState.RETRYING)
PURGE_BATCH = 500

_CLEARED = (
    "published_at",
    "started_at",
    "finished_at",
    "worker",
    "worker_at",
    "runtime_seconds",
    "result",
    "result_omitted_bytes",
    "error",
    "progress",
)


def _build_cancelled(now: datetime) -> dict[str, Any]:
    return {
        "state": TaskState.CANCELLED,
        "position": FINAL_POSITION,
        "due_at": None,
        "finished_at": now,
        "updated_at": now,
        "cancel_requested": True,
    }


async def cancel(database: Database, task_id: UUID, now: datetime) -> CancelOutcome:
    """Cancel at once what waits here; mark what a worker may have."""
    row = tasks.c.id == task_id
    async with database.begin() as connection:
        query = select(tasks.c.state, tasks.c.due_at, tasks.c.has_callback).where(row).with_for_update()
        found = (await connection.execute(query)).one_or_none()
        if found is None:
            return CancelOutcome.NOT_FOUND
        if TaskState(found.state).is_final:
            return CancelOutcome.ALREADY_FINAL
        # A task waiting for Celery's own retry is retrying too, but the worker has it: then nothing is due here.
        if found.due_at is not None and found.state not in (TaskState.QUEUED, TaskState.RUNNING):
            await connection.execute(update(tasks).where(row).values(_build_cancelled(now)))
            if found.has_callback:
                await mark_ended(connection, [task_id], now)
            return CancelOutcome.CANCELLED_NOW
        await connection.execute(update(tasks).where(row).values(cancel_requested=True))
        return CancelOutcome.NEEDS_WORKER


async def finish_cancelled(database: Database, task_id: UUID, now: datetime) -> bool:
    """Cancel an open task that no worker runs."""
    waiting = [state for state in TaskState if not state.is_final and state is not TaskState.RUNNING]
    async with database.begin() as connection:
        statement = update(tasks).where(tasks.c.id == task_id, tasks.c.state.in_(waiting))
        is_cancelled = (await connection.execute(statement.values(_build_cancelled(now)))).rowcount > 0
        if is_cancelled:
            await mark_ended(connection, [task_id], now)
        return is_cancelled


async def start_attempt(database: Database, ids: Sequence[UUID], now: datetime, grace: timedelta) -> list[TaskRecord]:
    """The next attempt of tasks that ended badly; pending, for the caller to publish."""
    is_wanted = [tasks.c.state.in_(REPEATABLE)]
    return await _start_next(database, ids, is_wanted, TaskState.PENDING, TaskState.PENDING, now + grace, now)


async def republish(
    database: Database, ids: Sequence[UUID], now: datetime, older_than: datetime | None
) -> list[TaskRecord]:
    """The next attempt of tasks whose message was lost; due now."""
    is_wanted: list[Any] = [tasks.c.state.in_(PUBLISHED), tasks.c.due_at.is_(None)]
    if older_than is not None:
        is_wanted.append(tasks.c.updated_at < older_than)
    return await _start_next(database, ids, is_wanted, TaskState.RETRYING, TaskState.SCHEDULED, now, now)


async def _start_next(
    database: Database,
    ids: Sequence[UUID],
    is_wanted: Sequence[Any],
    state: TaskState,
    ranks_as: TaskState,
    due_at: datetime,
    now: datetime,
) -> list[TaskRecord]:
    if not ids:
        return []
    records: list[TaskRecord] = []
    async with database.begin() as connection:
        for part in chunked(sorted(ids)):
            query = select(tasks.c.id).where(tasks.c.id.in_(part), *is_wanted).order_by(tasks.c.id).with_for_update()
            locked = list((await connection.execute(query)).scalars())
            if not locked:
                continue
            await archive_attempts(connection, locked)
            await connection.execute(_build_next(locked, state, ranks_as, due_at, now))
            rows = await connection.execute(select(*RECORD_COLUMNS).where(tasks.c.id.in_(locked)))
            records += [build_record(row) for row in rows]
    return records


def _build_next(ids: Sequence[UUID], state: TaskState, ranks_as: TaskState, due_at: datetime, now: datetime) -> Any:
    return (
        update(tasks)
        .where(tasks.c.id.in_(ids))
        .ordered_values(
            # MySQL assigns from left to right and reads what it assigned: attempt comes last.
            (tasks.c.position, _ATTEMPT_BASE + position(1, 0, ranks_as)),
            (tasks.c.state, literal(state.value)),
            (tasks.c.retries, 0),
            (tasks.c.deliveries, 0),
            (tasks.c.progress_count, 0),
            (tasks.c.cancel_requested, False),
            (tasks.c.due_at, due_at),
            (tasks.c.updated_at, now),
            *((tasks.c[name], None) for name in _CLEARED),
            (tasks.c.attempt, tasks.c.attempt + 1),
        )
    )


async def fetch_stale(database: Database, queue: str, older_than: datetime, limit: int) -> list[TaskRecord]:
    """Published open tasks of a queue that nothing was heard of."""
    query = (
        select(*RECORD_COLUMNS)
        .where(tasks.c.queue == queue, tasks.c.state.in_(PUBLISHED))
        .where(tasks.c.due_at.is_(None), tasks.c.updated_at < older_than)
        .order_by(tasks.c.created_at)
        .limit(limit)
    )
    async with database.connect() as connection:
        return [build_record(row) for row in await connection.execute(query)]


async def fetch_dead_ids(database: Database, queue: str, limit: int) -> list[UUID]:
    """Dead tasks of a queue, oldest first."""
    async with database.connect() as connection:
        return list((await connection.execute(_build_dead(queue, limit))).scalars())


def _build_dead(queue: str, limit: int) -> Any:
    is_dead = (tasks.c.queue == queue, tasks.c.state == TaskState.DEAD)
    return select(tasks.c.id).where(*is_dead).order_by(tasks.c.created_at, tasks.c.id).limit(limit)


async def purge_dead(database: Database, queue: str) -> int:
    """Delete one batch of the dead tasks of a queue; how many."""
    async with database.begin() as connection:
        query = _build_dead(queue, PURGE_BATCH).with_for_update(skip_locked=True)
        ids = list((await connection.execute(query)).scalars())
        await delete_by_ids(connection, ids)
    return len(ids)
