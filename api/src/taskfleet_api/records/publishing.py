"""The outbox: which tasks are to be published now, and which were. The broker itself is not known here."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import case, func, literal, select, update

from taskfleet_api.records.callbacks import mark_ended
from taskfleet_api.records.commanding import FINAL_POSITION
from taskfleet_api.records.engine import Database
from taskfleet_api.records.model import TaskRecord
from taskfleet_api.records.querying import RECORD_COLUMNS, build_record
from taskfleet_api.records.tables import tasks
from taskfleet_api.records.texts import chunked
from taskfleet_core.states import ATTEMPT_SPAN, TaskState, position

__all__ = ["claim_due", "count_backlog", "expire_due", "mark_queued"]

QUEUED_OFFSET = position(0, 0, TaskState.QUEUED)
UNPUBLISHED = (TaskState.SCHEDULED, TaskState.PENDING, TaskState.RETRYING)
NOT_RUNNING = (TaskState.SCHEDULED, TaskState.PENDING, TaskState.QUEUED, TaskState.RETRYING)

# Locked in the order of ids, as every batch does. A task that its worker already took keeps its state.
_MARK_QUEUED = f"""
WITH sent AS (
    SELECT tasks.id FROM unnest($1::uuid[], $2::int4[]) AS sent(id, attempt)
    JOIN tasks ON tasks.id = sent.id AND tasks.attempt = sent.attempt
    WHERE tasks.position < sent.attempt::int8 * {ATTEMPT_SPAN} + {QUEUED_OFFSET} OR tasks.published_at IS NULL
    ORDER BY tasks.id FOR UPDATE OF tasks
)
UPDATE tasks SET
    state = CASE WHEN position < attempt::int8 * {ATTEMPT_SPAN} + {QUEUED_OFFSET} THEN 'queued' ELSE state END,
    due_at = NULL,
    published_at = coalesce(published_at, $3),
    updated_at = $3,
    position = greatest(position, attempt::int8 * {ATTEMPT_SPAN} + {QUEUED_OFFSET})
FROM sent WHERE tasks.id = sent.id
"""


async def mark_queued(
    database: Database, ids: Sequence[UUID], attempts: int | Mapping[UUID, int], now: datetime
) -> int:
    """Note confirmed messages; how many rows changed."""
    if not ids:
        return 0
    numbers = [attempts if isinstance(attempts, int) else attempts[task_id] for task_id in ids]
    if database.is_postgresql:
        async with database.raw(transaction=False) as raw:
            tag = await raw.execute(_MARK_QUEUED, ids, numbers, now)
        return int(tag.rsplit(" ", 1)[1])
    by_attempt: dict[int, list[UUID]] = defaultdict(list)
    for task_id, number in zip(ids, numbers, strict=True):
        by_attempt[number].append(task_id)
    changed = 0
    async with database.begin() as connection:
        for number, group in by_attempt.items():
            for part in chunked(sorted(group)):
                changed += (await connection.execute(_build_mark_queued(part, number, now))).rowcount
    return changed


def _build_mark_queued(ids: Sequence[UUID], attempt: int, now: datetime):  # type: ignore[no-untyped-def]
    place = position(attempt, 0, TaskState.QUEUED)
    is_before = tasks.c.position < place
    return (
        update(tasks)
        .where(tasks.c.id.in_(ids), tasks.c.attempt == attempt)
        .where(is_before | tasks.c.published_at.is_(None))
        # MySQL assigns from left to right and reads what it assigned: position comes last.
        .ordered_values(
            (tasks.c.state, case((is_before, literal("queued")), else_=tasks.c.state)),
            (tasks.c.due_at, None),
            (tasks.c.published_at, func.coalesce(tasks.c.published_at, literal(now, tasks.c.published_at.type))),
            (tasks.c.updated_at, now),
            (tasks.c.position, case((is_before, literal(place)), else_=tasks.c.position)),
        )
    )


async def claim_due(database: Database, now: datetime, limit: int, lease_seconds: float) -> list[TaskRecord]:
    """Lease due tasks: the lock keeps other replicas out, then the later due time does."""
    query = (
        select(*RECORD_COLUMNS)
        .where(tasks.c.due_at <= now, tasks.c.state.in_(UNPUBLISHED))
        .order_by(tasks.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    leased_until = now + timedelta(seconds=lease_seconds)
    async with database.begin() as connection:
        records = [build_record(row) for row in await connection.execute(query)]
        for part in chunked([record.id for record in records]):
            await connection.execute(update(tasks).where(tasks.c.id.in_(part)).values(due_at=leased_until))
    return [replace(record, due_at=leased_until) for record in records]


async def expire_due(database: Database, now: datetime, limit: int) -> list[tuple[UUID, str]]:
    """Expire what is over and not running."""
    query = (
        select(tasks.c.id, tasks.c.queue, tasks.c.has_callback)
        .where(tasks.c.finished_at.is_(None), tasks.c.expires_at <= now, tasks.c.state.in_(NOT_RUNNING))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    async with database.begin() as connection:
        expired = (await connection.execute(query)).all()
        for part in chunked([row.id for row in expired]):
            await connection.execute(
                update(tasks)
                .where(tasks.c.id.in_(part))
                .values(
                    state=TaskState.EXPIRED,
                    position=FINAL_POSITION,
                    due_at=None,
                    finished_at=now,
                    updated_at=now,
                )
            )
        await mark_ended(connection, [row.id for row in expired if row.has_callback], now)
    return [(row.id, row.queue) for row in expired]


async def count_backlog(database: Database, limit: int) -> int:
    """Count pending tasks up to a bound."""
    pending = select(literal(1)).select_from(tasks).where(tasks.c.state == TaskState.PENDING).limit(limit).subquery()
    async with database.connect() as connection:
        return int((await connection.execute(select(func.count()).select_from(pending))).scalar_one())
