"""Callbacks: a row is made with its task, becomes due with the task's end in the same transaction, and is leased.

A change of a task's state by a replica that knows no callbacks (an older release) leaves its row waiting; `review`
finds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from taskfleet_api.records.engine import Database
from taskfleet_api.records.model import CallbackRecord, CallbackState, NewTask
from taskfleet_api.records.tables import callbacks, tasks
from taskfleet_api.records.texts import chunked
from taskfleet_core.states import FINAL_STATES

__all__ = [
    "CALLBACK_ARRAYS",
    "CALLBACK_CONSTANTS",
    "CallbackLease",
    "build_callbacks",
    "claim",
    "fetch_callback",
    "insert_callbacks",
    "mark_ended",
    "review",
    "settle",
]

CALLBACK_ARRAYS = {"task_id": "uuid", "url": "text", "receiver": "text", "due_at": "timestamptz"}
CALLBACK_CONSTANTS = {"state": "'waiting'", "attempt": "0", "tries": "0", "updated_at": "due_at"}
MOST_ROUNDS = 16  # of a claim: each finds one more receiver that is busy

_FIELDS = list(CallbackRecord.__dataclass_fields__)
_COLUMNS = [callbacks.c[name] for name in _FIELDS]


@dataclass(frozen=True, slots=True)
class CallbackLease:
    """What a replica can take: `slots` in all, at most `per_receiver` of each, with those `under_way` counted."""

    slots: int
    per_receiver: int
    seconds: float
    under_way: Mapping[str, int]


def build_callbacks(batch: Sequence[NewTask]) -> list[tuple[UUID, str, str, datetime]]:
    """The rows of new tasks, in the order of CALLBACK_ARRAYS. While one waits it is due since its task was made."""
    return [(task.id, task.callback.url, task.callback.receiver, task.created_at) for task in batch if task.callback]


async def insert_callbacks(connection: AsyncConnection, batch: Sequence[NewTask]) -> None:
    """Insert the rows of new tasks, in the caller's transaction, on any database."""
    rows = [dict(zip(CALLBACK_ARRAYS, row, strict=True)) for row in build_callbacks(batch)]
    if rows:
        constants = {"state": CallbackState.WAITING.value, "attempt": 0, "tries": 0}
        await connection.execute(
            callbacks.insert(), [{**row, **constants, "updated_at": row["due_at"]} for row in rows]
        )


async def fetch_callback(connection: AsyncConnection, task_id: UUID) -> CallbackRecord | None:
    """The callback of a task."""
    row = (await connection.execute(select(*_COLUMNS).where(callbacks.c.task_id == task_id))).one_or_none()
    return None if row is None else _build(row)


def _build(row: Row[Any]) -> CallbackRecord:
    values: dict[str, Any] = dict(zip(_FIELDS, row, strict=True))
    return CallbackRecord(**{**values, "state": CallbackState(values["state"])})


_ENDED_ATTEMPT = (
    select(tasks.c.attempt)
    .where(tasks.c.id == callbacks.c.task_id, tasks.c.state.in_(sorted(FINAL_STATES)))
    .correlate(callbacks)
    .scalar_subquery()
)


async def mark_ended(connection: AsyncConnection, ids: Sequence[UUID], now: datetime) -> int:
    """Make due the callbacks of these tasks as far as they have ended with an attempt not told yet; how many."""
    marked = 0
    for part in chunked(sorted(ids)):
        statement = (
            update(callbacks)
            .where(callbacks.c.task_id.in_(part), callbacks.c.attempt < _ENDED_ATTEMPT)
            .values(
                state=CallbackState.PENDING.value,
                attempt=_ENDED_ATTEMPT,
                tries=0,
                due_at=now,
                updated_at=now,
                last_status=None,
                last_error=None,
            )
        )
        marked += (await connection.execute(statement)).rowcount
    return marked


async def claim(database: Database, now: datetime, lease: CallbackLease) -> list[CallbackRecord]:
    """Lease due callbacks, the longest due first, and count the call that follows."""
    counts = dict(lease.under_way)
    taken: list[CallbackRecord] = []
    async with database.begin() as connection:
        for _ in range(MOST_ROUNDS):
            wanted = lease.slots - len(taken)
            busy = sorted(name for name, count in counts.items() if count >= lease.per_receiver)
            rows = (await connection.execute(_build_due(now, busy, wanted))).all() if wanted > 0 else []
            found = []
            for record in map(_build, rows):
                counts[record.receiver] = counts.get(record.receiver, 0) + 1
                if counts[record.receiver] <= lease.per_receiver:
                    found.append(record)
            taken += await _lease(connection, found, now, now + timedelta(seconds=lease.seconds))
            if len(rows) < wanted or not rows:
                break
    return taken


def _build_due(now: datetime, busy: Sequence[str], limit: int) -> Any:
    query = select(*_COLUMNS).where(callbacks.c.state == CallbackState.PENDING.value, callbacks.c.due_at <= now)
    if busy:
        query = query.where(callbacks.c.receiver.not_in(busy))
    return query.order_by(callbacks.c.due_at).limit(limit).with_for_update(skip_locked=True)


async def _lease(
    connection: AsyncConnection, found: Sequence[CallbackRecord], now: datetime, until: datetime
) -> list[CallbackRecord]:
    for part in chunked([record.task_id for record in found]):
        statement = update(callbacks).where(callbacks.c.task_id.in_(part))
        await connection.execute(statement.values(tries=callbacks.c.tries + 1, due_at=until, updated_at=now))
    return [replace(record, tries=record.tries + 1, due_at=until, updated_at=now) for record in found]


async def settle(database: Database, record: CallbackRecord) -> bool:
    """Write what came of a call; False when another attempt's end, or another replica, came in between."""
    async with database.begin() as connection:
        statement = (
            update(callbacks)
            .where(callbacks.c.task_id == record.task_id, callbacks.c.state == CallbackState.PENDING.value)
            .where(callbacks.c.attempt == record.attempt, callbacks.c.tries == record.tries)
            .values({name: getattr(record, name) for name in ("due_at", "updated_at", "last_status", "last_error")})
            .values(state=record.state.value)
        )
        return (await connection.execute(statement)).rowcount > 0


async def review(
    database: Database, after: tuple[datetime, UUID] | None, limit: int, now: datetime
) -> tuple[int, tuple[datetime, UUID] | None]:
    """Look at one page of waiting callbacks, the oldest first, for tasks that have ended.

    How many were made due, and where the next page begins; None after the last.
    """
    due_at, task_id = callbacks.c.due_at, callbacks.c.task_id
    query = select(due_at, task_id).where(callbacks.c.state == CallbackState.WAITING.value)
    if after is not None:
        query = query.where(or_(due_at > after[0], and_(due_at == after[0], task_id > after[1])))
    async with database.connect() as connection:
        page = (await connection.execute(query.order_by(due_at, task_id).limit(limit))).all()
        ended: list[UUID] = []
        for part in chunked([row.task_id for row in page]):
            final = select(tasks.c.id).where(tasks.c.id.in_(part), tasks.c.state.in_(sorted(FINAL_STATES)))
            ended += (await connection.execute(final)).scalars()
    marked = 0
    if ended:
        async with database.begin() as connection:
            marked = await mark_ended(connection, ended, now)
    return marked, (page[-1].due_at, page[-1].task_id) if len(page) == limit else None
