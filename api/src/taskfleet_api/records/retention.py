"""Deleting what is over, in batches that lock little and finish soon."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from taskfleet_api.records.engine import Database
from taskfleet_api.records.tables import callbacks, idempotency_keys, schedule_ticks, task_attempts, task_labels, tasks
from taskfleet_api.records.texts import chunked
from taskfleet_core.states import FINAL_STATES

__all__ = ["delete_by_ids", "delete_finished", "delete_keys", "delete_ticks"]


async def delete_by_ids(connection: AsyncConnection, ids: Sequence[UUID]) -> None:
    """Delete tasks with all that belongs to them, except their idempotency keys, which have their own time."""
    for part in chunked(sorted(ids)):
        await connection.execute(delete(task_attempts).where(task_attempts.c.task_id.in_(part)))
        await connection.execute(delete(task_labels).where(task_labels.c.task_id.in_(part)))
        await connection.execute(delete(callbacks).where(callbacks.c.task_id.in_(part)))
        await connection.execute(delete(tasks).where(tasks.c.id.in_(part)))


async def delete_finished(database: Database, older_than: datetime, limit: int) -> int:
    """One batch over all final states."""
    ids: list[UUID] = []
    async with database.begin() as connection:
        for state in sorted(FINAL_STATES):
            if len(ids) >= limit:
                break
            query = (
                select(tasks.c.id)
                .where(tasks.c.state == state, tasks.c.created_at < older_than, tasks.c.finished_at < older_than)
                .order_by(tasks.c.created_at, tasks.c.id)
                .limit(limit - len(ids))
                .with_for_update(skip_locked=True)
            )
            ids += (await connection.execute(query)).scalars()
        await delete_by_ids(connection, ids)
    return len(ids)


async def delete_keys(database: Database, older_than: datetime, limit: int) -> int:
    """One batch of idempotency keys."""
    digest, created_at = idempotency_keys.c.digest, idempotency_keys.c.created_at
    query = select(digest).where(created_at < older_than).order_by(created_at).limit(limit)
    return await _delete_batch(database, idempotency_keys, digest, query)


async def delete_ticks(database: Database, older_than: datetime, limit: int) -> int:
    """One batch of ticks."""
    key = tuple_(schedule_ticks.c.schedule_id, schedule_ticks.c.tick_at)
    query = (
        select(schedule_ticks.c.schedule_id, schedule_ticks.c.tick_at)
        .where(schedule_ticks.c.tick_at < older_than)
        .order_by(schedule_ticks.c.tick_at)
        .limit(limit)
    )
    return await _delete_batch(database, schedule_ticks, key, query)


async def _delete_batch(database: Database, table: Any, key: Any, query: Any) -> int:
    async with database.begin() as connection:
        rows = (await connection.execute(query.with_for_update(skip_locked=True))).all()
        for part in chunked([row[0] if len(row) == 1 else tuple(row) for row in rows]):
            await connection.execute(delete(table).where(key.in_(part)))
    return len(rows)
