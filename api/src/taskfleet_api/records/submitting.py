"""Recording submissions: one transaction per batch, idempotency keys settled by the database's unique index.

On PostgreSQL each table takes one prepared statement with arrays; elsewhere one many-row INSERT.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from taskfleet_api.records.callbacks import CALLBACK_ARRAYS, CALLBACK_CONSTANTS, build_callbacks, insert_callbacks
from taskfleet_api.records.engine import Database
from taskfleet_api.records.labels import is_label_text
from taskfleet_api.records.model import MAX_NAME_LENGTH, Accepted, KeyConflict, KeyConflictError, NewTask, Outcome
from taskfleet_api.records.tables import idempotency_keys, task_labels, tasks
from taskfleet_api.records.texts import build_arrays, chunked, encode_retry, is_clean
from taskfleet_api.records.upserting import build_insert_unless_present
from taskfleet_core.errors import InvalidInputError
from taskfleet_core.states import TaskState, position

__all__ = ["check_task", "insert_rows", "insert_tasks"]

LABELS_AT_ONCE = 5000  # writing them down for the database takes a while, in which nobody else runs
PENDING = position(1, 0, TaskState.PENDING)
SCHEDULED = position(1, 0, TaskState.SCHEDULED)

# Column, array type, constant for the columns that do not come from the submission.
_TASK_ARRAYS = {
    "id": "uuid",
    "queue": "text",
    "task": "text",
    "state": "text",
    "position": "int8",
    "args": "text",
    "kwargs": "text",
    "metadata": "text",
    "priority": "int2",
    "eta": "timestamptz",
    "expires_at": "timestamptz",
    "due_at": "timestamptz",
    "retry": "text",
    "timeout_seconds": "float8",
    "created_at": "timestamptz",
    "traceparent": "text",
    "origin": "text",
    "principal": "text",
    "has_callback": "bool",
}
_TASK_CONSTANTS = {
    "updated_at": "created_at",
    "attempt": "1",
    "retries": "0",
    "progress_count": "0",
    "deliveries": "0",
    "cancel_requested": "false",
}


def _build_array_insert(table: str, arrays: dict[str, str], constants: dict[str, str], suffix: str = "") -> str:
    names = ", ".join(arrays)
    parameters = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(arrays.values(), start=1))
    return (
        f"INSERT INTO {table} ({', '.join([*arrays, *constants])}) "
        f"SELECT {', '.join([names, *constants.values()])} FROM unnest({parameters}) AS new({names}) {suffix}"
    )


_INSERT_TASKS = _build_array_insert("tasks", _TASK_ARRAYS, _TASK_CONSTANTS)
_INSERT_LABELS = _build_array_insert(
    "task_labels", {"key": "text", "value": "text", "created_at": "timestamptz", "task_id": "uuid"}, {}
)
_INSERT_CALLBACKS = _build_array_insert("callbacks", CALLBACK_ARRAYS, CALLBACK_CONSTANTS)
# Sorted, so that two batches with the same keys wait for one another instead of deadlocking.
_INSERT_KEYS = _build_array_insert(
    "idempotency_keys",
    {"digest": "bytea", "body_hash": "bytea", "task_id": "uuid", "created_at": "timestamptz"},
    {},
    "ORDER BY digest ON CONFLICT DO NOTHING RETURNING digest",
)
_SELECT_KEYS = "SELECT digest, body_hash, task_id FROM idempotency_keys WHERE digest = ANY($1::bytea[])"


class Key(NamedTuple):
    """An idempotency key as stored."""

    digest: bytes
    body_hash: bytes
    task_id: UUID
    created_at: datetime


def check_task(task: NewTask) -> None:
    """Refuse what a database would refuse, so that one submission never fails the others of its commit."""
    for name, value in (("queue", task.queue), ("task", task.task), ("principal", task.principal)):
        if len(value) > MAX_NAME_LENGTH or not is_clean(value):
            raise InvalidInputError(f"{name} must be at most {MAX_NAME_LENGTH} characters and hold no NUL")
    for text in (task.args_json, task.kwargs_json, task.metadata_json or "", task.traceparent or ""):
        if not is_clean(text):
            raise InvalidInputError("text holds a NUL character or a lone surrogate")
    if task.traceparent is not None and len(task.traceparent) > MAX_NAME_LENGTH:
        raise InvalidInputError("traceparent is too long")


def _build_values(task: NewTask, grace: timedelta) -> tuple[Any, ...]:
    """The values in the order of _TASK_ARRAYS."""
    created_at = task.created_at
    if task.eta is not None and task.eta > created_at:
        state, place, due_at = "scheduled", SCHEDULED, task.eta
    else:
        state, place, due_at = "pending", PENDING, created_at + grace
    return (
        task.id,
        task.queue,
        task.task,
        state,
        place,
        task.args_json,
        task.kwargs_json,
        task.metadata_json,
        task.priority,
        task.eta,
        task.expires_at,
        due_at,
        encode_retry(task.retry),
        task.timeout_seconds,
        created_at,
        task.traceparent,
        task.origin,
        task.principal,
        True if task.callback is not None else None,
    )


def _build_labels(batch: Sequence[NewTask]) -> list[tuple[str, str, datetime, UUID]]:
    return [
        (key, value, task.created_at, task.id)
        for task in batch
        if task.labels
        for key, value in dict(task.labels).items()
        if is_label_text(key) and is_label_text(value)
    ]


def _build_key(task: NewTask) -> Key | None:
    if task.idempotency_key is None:
        return None
    text = f"{len(task.principal)}:{task.principal}{task.idempotency_key}"
    body = task.body_hash or b""
    return Key(
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(),
        body if len(body) == 32 else hashlib.sha256(body).digest(),
        task.id,
        task.created_at,
    )


async def insert_tasks(
    database: Database, batch: Sequence[NewTask], grace: timedelta, *, atomic: bool = False
) -> list[Outcome]:
    """Record a batch in one transaction; see Records.insert_tasks."""
    if not batch:
        return []
    keys = [_build_key(task) for task in batch]
    if database.is_postgresql:
        plain = not any(keys) and not any(task.labels or task.callback for task in batch)
        async with database.raw(transaction=not plain) as raw:
            known = await _claim_keys_raw(raw, keys)
            outcomes, winners = _decide_outcomes(batch, keys, known, atomic)
            await _insert_raw(raw, winners, grace)
        return outcomes
    async with database.begin() as connection:
        known = await _claim_keys(connection, database, keys)
        outcomes, winners = _decide_outcomes(batch, keys, known, atomic)
        await insert_rows(connection, winners, grace)
    return outcomes


async def insert_rows(connection: AsyncConnection, batch: Sequence[NewTask], grace: timedelta) -> None:
    """Insert tasks without keys, in the caller's transaction, on any database."""
    if not batch:
        return
    names = list(_TASK_ARRAYS)
    rows = [dict(zip(names, _build_values(task, grace), strict=True)) for task in batch]
    constants = {"attempt": 1, "retries": 0, "progress_count": 0, "deliveries": 0, "cancel_requested": False}
    for row in rows:
        row.update(constants, updated_at=row["created_at"])
    await connection.execute(tasks.insert(), rows)
    labels = _build_labels(batch)
    if labels:
        names = ["key", "value", "created_at", "task_id"]
        await connection.execute(task_labels.insert(), [dict(zip(names, label, strict=True)) for label in labels])
    await insert_callbacks(connection, batch)


async def _insert_raw(raw: Any, batch: Sequence[NewTask], grace: timedelta) -> None:
    if not batch:
        return
    labels = _build_labels(batch)
    await raw.execute(_INSERT_TASKS, *build_arrays([_build_values(task, grace) for task in batch]))
    for part in chunked(labels, LABELS_AT_ONCE):
        await raw.execute(_INSERT_LABELS, *build_arrays(part))
    if callbacks := build_callbacks(batch):
        await raw.execute(_INSERT_CALLBACKS, *build_arrays(callbacks))


def _decide_outcomes(
    batch: Sequence[NewTask], keys: Sequence[Key | None], known: dict[bytes, tuple[bytes, UUID]], atomic: bool
) -> tuple[list[Outcome], list[NewTask]]:
    """Outcome per item, and the tasks to insert: those without a key and those whose key is theirs."""
    outcomes: list[Outcome] = []
    winners: list[NewTask] = []
    for task, key in zip(batch, keys, strict=True):
        if key is None or known[key.digest][1] == task.id:
            outcomes.append(Accepted(task.id))
            winners.append(task)
        elif known[key.digest][0] == key.body_hash:
            outcomes.append(Accepted(known[key.digest][1], replayed=True))
        else:
            outcomes.append(KeyConflict(task.idempotency_key or ""))
    if atomic:
        conflicts = {index: item for index, item in enumerate(outcomes) if isinstance(item, KeyConflict)}
        if conflicts:
            raise KeyConflictError(conflicts)
    return outcomes, winners


def _build_first_keys(keys: Sequence[Key | None]) -> dict[bytes, Key]:
    """Per digest the first item of the batch that uses it."""
    first: dict[bytes, Key] = {}
    for key in keys:
        if key is not None:
            first.setdefault(key.digest, key)
    return first


async def _claim_keys_raw(raw: Any, keys: Sequence[Key | None]) -> dict[bytes, tuple[bytes, UUID]]:
    """Who holds each key after this batch tried to take it: body hash and task."""
    first = _build_first_keys(keys)
    if not first:
        return {}
    won = await raw.fetch(_INSERT_KEYS, *build_arrays(list(first.values())))
    known = {row[0]: (first[row[0]].body_hash, first[row[0]].task_id) for row in won}
    lost = [digest for digest in first if digest not in known]
    if lost:
        # A new snapshot: the one that made us wait has committed by now.
        known |= {row[0]: (row[1], UUID(int=row[2].int)) for row in await raw.fetch(_SELECT_KEYS, lost)}
    return known


async def _claim_keys(
    connection: AsyncConnection, database: Database, keys: Sequence[Key | None]
) -> dict[bytes, tuple[bytes, UUID]]:
    first = _build_first_keys(keys)
    if not first:
        return {}
    rows = [first[digest]._asdict() for digest in sorted(first)]
    await connection.execute(build_insert_unless_present(database, idempotency_keys, idempotency_keys.c.digest), rows)
    known = {}
    columns = idempotency_keys.c
    for digests in chunked(list(first)):
        query = select(columns.digest, columns.body_hash, columns.task_id).where(columns.digest.in_(digests))
        known.update({bytes(row[0]): (bytes(row[1]), row[2]) for row in await connection.execute(query)})
    return known
