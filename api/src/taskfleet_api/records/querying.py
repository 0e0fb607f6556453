"""Reading tasks: by id, and in pages newest first whose cursor stays right while tasks come and change state."""

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Row, Select, and_, exists, func, or_, select, union_all

from taskfleet_api.records.engine import Database
from taskfleet_api.records.model import AttemptRecord, Page, TaskFilter, TaskRecord
from taskfleet_api.records.tables import task_attempts, task_labels, tasks
from taskfleet_api.records.texts import chunked, clean_text, decode_retry
from taskfleet_core.errors import FieldError, InvalidInputError
from taskfleet_core.states import FINAL_STATES, TaskState

__all__ = [
    "RECORD_COLUMNS",
    "build_record",
    "count_queues",
    "fetch_many",
    "fetch_record",
    "list_tasks",
]

_FIELDS = list(TaskRecord.__dataclass_fields__)[:-1]
RECORD_COLUMNS: list[Column[Any]] = [tasks.c[name] for name in _FIELDS]
"""The columns of a TaskRecord in the order of its fields."""

_STATE, _RETRY = _FIELDS.index("state"), _FIELDS.index("retry")
_ATTEMPT_FIELDS = list(AttemptRecord.__dataclass_fields__)
_ATTEMPT_COLUMNS: list[Column[Any]] = [task_attempts.c[name] for name in _ATTEMPT_FIELDS]

SMALL_STATES = (*(state for state in TaskState if state not in FINAL_STATES), TaskState.DEAD)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = struct.Struct(">8sq16s")


def build_record(row: Row[Any]) -> TaskRecord:
    """A row of RECORD_COLUMNS as data."""
    values = list(row)
    values[_STATE] = TaskState(values[_STATE])
    values[_RETRY] = decode_retry(values[_RETRY])
    return TaskRecord(*values)


def _build_attempt(row: Row[Any]) -> AttemptRecord:
    values = dict(zip(_ATTEMPT_FIELDS, row, strict=True))
    return AttemptRecord(**{**values, "state": TaskState(values["state"])})


async def fetch_record(database: Database, task_id: UUID) -> TaskRecord | None:
    """One task with its earlier attempts."""
    async with database.connect() as connection:
        row = (await connection.execute(select(*RECORD_COLUMNS).where(tasks.c.id == task_id))).one_or_none()
        if row is None:
            return None
        record = build_record(row)
        if record.attempt == 1:
            return record
        query = select(*_ATTEMPT_COLUMNS).where(task_attempts.c.task_id == task_id).order_by(task_attempts.c.attempt)
        earlier = tuple(_build_attempt(item) for item in await connection.execute(query))
    return replace(record, earlier_attempts=earlier)


async def fetch_many(database: Database, ids: Sequence[UUID]) -> dict[UUID, TaskRecord]:
    """The tasks that exist, by id."""
    records: dict[UUID, TaskRecord] = {}
    async with database.connect() as connection:
        for part in chunked(ids, 500):
            for row in await connection.execute(select(*RECORD_COLUMNS).where(tasks.c.id.in_(part))):
                record = build_record(row)
                records[record.id] = record
    return records


async def count_queues(database: Database) -> dict[str, dict[str, int]]:
    """Counts of the states that stay small."""
    query = (
        select(tasks.c.queue, tasks.c.state, func.count())
        .where(tasks.c.state.in_(SMALL_STATES))
        .group_by(tasks.c.queue, tasks.c.state)
    )
    counts: dict[str, dict[str, int]] = {}
    async with database.connect() as connection:
        for queue, state, count in await connection.execute(query):
            counts.setdefault(queue, {})[state] = count
    return counts


async def list_tasks(database: Database, wanted: TaskFilter, cursor: str | None, limit: int) -> Page:
    """One page by (created_at, id), newest first. Ids alone would not do: a Celery producer's are not in time order."""
    digest = _build_digest(wanted)
    after = _parse_cursor(cursor, digest) if cursor else None
    build = _build_label_query if wanted.labels else _build_state_query
    async with database.connect() as connection:
        keys = [(row.created_at, row.id) for row in await connection.execute(build(wanted, after, limit + 1))]
    shown = keys[:limit]
    records = await fetch_many(database, [task_id for _, task_id in shown])
    # A task that was deleted in between is left out.
    items = [records[task_id] for _, task_id in shown if task_id in records]
    return Page(items, _build_cursor(digest, *shown[-1]) if len(keys) > limit else None)


def _build_state_query(wanted: TaskFilter, after: tuple[datetime, UUID] | None, limit: int) -> Select[Any]:
    """The newest of each state, read from its index, then the newest of those."""
    branches = []
    for state in sorted(wanted.states or TaskState):
        query = select(tasks.c.created_at, tasks.c.id).where(tasks.c.state == state, *_build_conditions(wanted))
        if after is not None:
            query = query.where(_is_after(tasks.c.created_at, tasks.c.id, after))
        newest = query.order_by(tasks.c.created_at.desc(), tasks.c.id.desc()).limit(limit).subquery()
        branches.append(select(newest.c.created_at, newest.c.id))
    found = union_all(*branches).subquery()
    return select(found.c.created_at, found.c.id).order_by(found.c.created_at.desc(), found.c.id.desc()).limit(limit)


def _build_label_query(wanted: TaskFilter, after: tuple[datetime, UUID] | None, limit: int) -> Select[Any]:
    """The newest tasks of the first label that have the others too."""
    (key, value), *others = [(clean_text(key, 256), clean_text(value, 256)) for key, value in wanted.labels]
    labels = task_labels.c
    query = (
        select(labels.created_at, labels.task_id.label("id"))
        .select_from(task_labels.join(tasks, tasks.c.id == labels.task_id))
        .where(labels.key == key, labels.value == value, *_build_conditions(wanted))
        .order_by(labels.created_at.desc(), labels.task_id.desc())
        .limit(limit)
    )
    if wanted.states:
        query = query.where(tasks.c.state.in_(sorted(wanted.states)))
    for other_key, other_value in others:
        other = task_labels.alias()
        is_same = and_(other.c.created_at == tasks.c.created_at, other.c.task_id == tasks.c.id)
        query = query.where(exists().where(other.c.key == other_key, other.c.value == other_value, is_same))
    if after is not None:
        query = query.where(_is_after(labels.created_at, labels.task_id, after))
    return query


def _build_conditions(wanted: TaskFilter) -> list[Any]:
    conditions: list[Any] = []
    if wanted.queue is not None:
        conditions.append(tasks.c.queue == clean_text(wanted.queue, 256))
    if wanted.task is not None:
        conditions.append(tasks.c.task == clean_text(wanted.task, 256))
    if wanted.created_after is not None:
        conditions.append(tasks.c.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(tasks.c.created_at < wanted.created_before)
    return conditions


def _is_after(created_at: Column[Any], task_id: Column[Any], after: tuple[datetime, UUID]) -> Any:
    """Older than the last one shown, in the form that every planner reads as an index range."""
    return and_(created_at <= after[0], or_(created_at < after[0], task_id < after[1]))


def _build_digest(wanted: TaskFilter) -> bytes:
    parts = (
        wanted.queue,
        sorted(wanted.states),
        wanted.task,
        wanted.labels,
        wanted.created_after and wanted.created_after.timestamp(),
        wanted.created_before and wanted.created_before.timestamp(),
    )
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()[:8]


def _build_cursor(digest: bytes, created_at: datetime, task_id: UUID) -> str:
    microseconds = (created_at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(_CURSOR.pack(digest, microseconds, task_id.bytes)).rstrip(b"=").decode()


def _parse_cursor(cursor: str, digest: bytes) -> tuple[datetime, UUID]:
    try:
        packed = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        made_for, microseconds, task_id = _CURSOR.unpack(packed)
        created_at = _EPOCH + timedelta(microseconds=microseconds)
    except (ValueError, binascii.Error, struct.error, OverflowError) as error:
        raise _build_cursor_error("is not a cursor; use `next_cursor` of an answer as it is") from error
    if made_for != digest:
        raise _build_cursor_error("belongs to other filters; start again without a cursor")
    return created_at, UUID(bytes=task_id)


def _build_cursor_error(detail: str) -> InvalidInputError:
    return InvalidInputError(f"cursor {detail}", (FieldError("#/cursor", detail),))
