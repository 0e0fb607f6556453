"""Reading tasks: by id, and in pages newest first whose cursor stays right while tasks come and change state."""

import base64
import binascii
import functools
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Integer, Row, Select, and_, bindparam, exists, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from taskfleet_api.records.callbacks import fetch_callback
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
    "count_unfinished",
    "fetch_many",
    "fetch_record",
    "list_tasks",
]

_FIELDS = list(TaskRecord.__dataclass_fields__)[:-2]
RECORD_COLUMNS: list[Column[Any]] = [tasks.c[name] for name in _FIELDS]
"""The columns of a TaskRecord in the order of its fields."""

_STATE, _RETRY = _FIELDS.index("state"), _FIELDS.index("retry")
_ATTEMPT_FIELDS = list(AttemptRecord.__dataclass_fields__)
_ATTEMPT_COLUMNS: list[Column[Any]] = [task_attempts.c[name] for name in _ATTEMPT_FIELDS]

OPEN_STATES = tuple(state for state in TaskState if state not in FINAL_STATES)
SMALL_STATES = (*OPEN_STATES, TaskState.DEAD)

FIRST_ROWS = 20  # rows of a page that are read without knowing how large they are
PAGE_BYTES = 8 * 1024 * 1024  # a page ends with the row that goes beyond; one task may have some MiB

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


# Made once: building a statement of this many columns costs more than running it.
_ONE = select(*RECORD_COLUMNS).where(tasks.c.id == bindparam("id", type_=tasks.c.id.type))
_MANY = select(*RECORD_COLUMNS).where(tasks.c.id.in_(bindparam("ids", expanding=True)))
_EARLIER = (
    select(*_ATTEMPT_COLUMNS)
    .where(task_attempts.c.task_id == bindparam("id", type_=tasks.c.id.type))
    .order_by(task_attempts.c.attempt)
)


async def fetch_record(database: Database, task_id: UUID) -> TaskRecord | None:
    """One task with its callback and earlier attempts."""
    async with database.connect() as connection:
        row = (await connection.execute(_ONE, {"id": task_id})).one_or_none()
        if row is None:
            return None
        record = build_record(row)
        if record.has_callback:
            record = replace(record, callback=await fetch_callback(connection, task_id))
        if record.attempt == 1:
            return record
        earlier = tuple(_build_attempt(item) for item in await connection.execute(_EARLIER, {"id": task_id}))
    return replace(record, earlier_attempts=earlier)


async def fetch_many(database: Database, ids: Sequence[UUID]) -> dict[UUID, TaskRecord]:
    """The tasks that exist, by id."""
    async with database.connect() as connection:
        return await _fetch_many(connection, ids)


async def _fetch_many(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, TaskRecord]:
    records: dict[UUID, TaskRecord] = {}
    for part in chunked(ids):
        for row in await connection.execute(_MANY, {"ids": list(part)}):
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


async def count_unfinished(database: Database, by_caller: bool) -> dict[tuple[str, str], int]:
    """Counts of all open states together; by queue alone the index has all that is asked for."""
    keys = [tasks.c.queue, tasks.c.principal] if by_caller else [tasks.c.queue]
    query = select(func.count(), *keys).where(tasks.c.state.in_(OPEN_STATES)).group_by(*keys)
    async with database.connect() as connection:
        return {(row[1], row[2] if by_caller else ""): row[0] for row in await connection.execute(query)}


async def list_tasks(database: Database, wanted: TaskFilter, cursor: str | None, limit: int) -> Page:
    """One page by (created_at, id), newest first. Ids alone would not do: a Celery producer's are not in time order."""
    if wanted.only_queues == ():
        return Page()
    digest = _build_digest(wanted)
    values = _build_values(wanted)
    if cursor:
        values["last_at"], values["last_id"] = _parse_cursor(cursor, digest)
    build = _build_label_query if wanted.labels else _build_state_query
    query = build(tuple(sorted(wanted.states)), frozenset(values), len(wanted.labels))
    async with database.connect() as connection:
        keys = [(row.created_at, row.id) for row in await connection.execute(query, {**values, "limit": limit + 1})]
        records, shown = await _fetch_page(connection, keys[:limit])
    # A task that was deleted in between is left out.
    items = [records[task_id] for _, task_id in shown if task_id in records]
    return Page(items, _build_cursor(digest, *shown[-1]) if len(keys) > len(shown) else None)


async def _fetch_page(
    connection: AsyncConnection, keys: Sequence[tuple[datetime, UUID]]
) -> tuple[dict[UUID, TaskRecord], Sequence[tuple[datetime, UUID]]]:
    """The tasks of a page and their keys; fewer than asked for when they are large. A page is held in memory."""
    records: dict[UUID, TaskRecord] = {}
    taken = size = 0
    count = FIRST_ROWS
    while taken < len(keys) and size < PAGE_BYTES:
        part = keys[taken : taken + count]
        found = await _fetch_many(connection, [task_id for _, task_id in part])
        records |= found
        taken += len(part)
        size += sum(map(_estimate_bytes, found.values()))
        count = max(1, (PAGE_BYTES - size) // (size // taken + 1))
    return records, keys[:taken]


def _estimate_bytes(record: TaskRecord) -> int:
    texts = (record.args, record.kwargs, record.metadata, record.result, record.error, record.progress)
    return sum(len(text) for text in texts if text is not None)


def _build_values(wanted: TaskFilter) -> dict[str, Any]:
    """The parameters of the query; which there are decides its shape. Names are cut to one more than the longest."""
    values: dict[str, Any] = {
        "queue": None if wanted.queue is None else clean_text(wanted.queue, 256),
        "task": None if wanted.task is None else clean_text(wanted.task, 256),
        "created_after": wanted.created_after,
        "created_before": wanted.created_before,
    }
    values["only_queues"] = None if wanted.only_queues is None else list(wanted.only_queues)
    for number, (key, value) in enumerate(wanted.labels):
        values[f"key_{number}"], values[f"value_{number}"] = clean_text(key, 256), clean_text(value, 256)
    return {name: value for name, value in values.items() if value is not None}


@functools.lru_cache(maxsize=256)
def _build_state_query(states: tuple[TaskState, ...], given: frozenset[str], _labels: int) -> Select[Any]:
    """The newest of each state, read from its index, then the newest of those."""
    limit = bindparam("limit", type_=Integer)
    branches = []
    for state in states or tuple(TaskState):
        query = select(tasks.c.created_at, tasks.c.id).where(tasks.c.state == state)
        query = query.where(*_build_conditions(given, tasks.c.created_at, tasks.c.id))
        newest = query.order_by(tasks.c.created_at.desc(), tasks.c.id.desc()).limit(limit).subquery()
        branches.append(select(newest.c.created_at, newest.c.id))
    found = union_all(*branches).subquery()
    return select(found.c.created_at, found.c.id).order_by(found.c.created_at.desc(), found.c.id.desc()).limit(limit)


@functools.lru_cache(maxsize=256)
def _build_label_query(states: tuple[TaskState, ...], given: frozenset[str], count: int) -> Select[Any]:
    """The newest tasks of the first label that have the others too."""
    labels = task_labels.c
    query = (
        select(labels.created_at, labels.task_id.label("id"))
        .select_from(task_labels.join(tasks, tasks.c.id == labels.task_id))
        .where(labels.key == bindparam("key_0"), labels.value == bindparam("value_0"))
        .where(*_build_conditions(given, labels.created_at, labels.task_id))
        .order_by(labels.created_at.desc(), labels.task_id.desc())
        .limit(bindparam("limit", type_=Integer))
    )
    if states:
        query = query.where(tasks.c.state.in_(states))
    for number in range(1, count):
        other = task_labels.alias()
        is_same = and_(other.c.created_at == tasks.c.created_at, other.c.task_id == tasks.c.id)
        has_label = and_(other.c.key == bindparam(f"key_{number}"), other.c.value == bindparam(f"value_{number}"))
        query = query.where(exists().where(has_label, is_same))
    return query


def _build_conditions(given: frozenset[str], created_at: Column[Any], task_id: Column[Any]) -> list[Any]:
    time = created_at.type
    last_at = bindparam("last_at", type_=time)
    conditions = {
        "queue": tasks.c.queue == bindparam("queue"),
        "only_queues": tasks.c.queue.in_(bindparam("only_queues", expanding=True)),
        "task": tasks.c.task == bindparam("task"),
        "created_after": created_at >= bindparam("created_after", type_=time),
        "created_before": created_at < bindparam("created_before", type_=time),
        # Older than the last one shown, in the form that every planner reads as an index range.
        "last_at": and_(
            created_at <= last_at,
            or_(created_at < last_at, task_id < bindparam("last_id", type_=task_id.type)),
        ),
    }
    return [condition for name, condition in conditions.items() if name in given]


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
