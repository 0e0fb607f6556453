"""Applying events: lock the rows, merge by the pure rules, write back what changed, in one transaction."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from taskfleet_api.records.archiving import archive_attempts, write_attempts
from taskfleet_api.records.callbacks import mark_ended
from taskfleet_api.records.engine import Database
from taskfleet_api.records.merging import Attempt, Known, Merged, Observation, merge, parse_event
from taskfleet_api.records.model import ApplyResult
from taskfleet_api.records.tables import task_attempts, tasks
from taskfleet_api.records.texts import chunked, decode_retry
from taskfleet_api.records.upserting import build_insert_unless_present
from taskfleet_api.records.writing import write_merged
from taskfleet_core.states import TaskState

__all__ = ["apply_events"]

_VIEW_FIELDS = (
    "attempt",
    "position",
    "state",
    "retries",
    "started_at",
    "finished_at",
    "worker",
    "worker_at",
    "runtime_seconds",
    "deliveries",
    "progress_count",
)
_KNOWN_FIELDS = (
    *_VIEW_FIELDS,
    "due_at",
    "created_at",
    "origin",
    "retry",
    "cancel_requested",
    "eta",
    "published_at",
    "has_callback",
)
_KNOWN_COLUMNS = (tasks.c.id, *(tasks.c[name] for name in _KNOWN_FIELDS), tasks.c.args.is_(None).label("needs_args"))
_LOCK = (
    f"SELECT id, {', '.join(_KNOWN_FIELDS)}, args IS NULL AS needs_args FROM tasks "
    "WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
)


async def apply_events(database: Database, events: Sequence[Mapping[str, Any]], now: datetime) -> ApplyResult:
    """Apply a batch; see Records.apply_events."""
    seen: dict[UUID, list[Observation]] = defaultdict(list)
    malformed = 0
    for event in events:
        observation = parse_event(event)
        if observation is None:
            malformed += 1
        else:
            seen[observation.id].append(observation)
    if not seen:
        return ApplyResult(malformed=malformed)
    async with database.begin() as connection:
        known, created = await _fetch_known(connection, database, seen, now)
        merged = [merge(item, seen[item.id], now) for item in known]
        await archive_attempts(connection, [item.id for item in merged if item.archive])
        await write_attempts(connection, [(item.id, view) for item in merged for view in item.earlier])
        await write_merged(connection, database, (item for item in merged if item.changed), now)
        await _mark_callbacks(connection, merged, known, now)
    changed = tuple(item.id for item in merged if item.changed or item.earlier)
    return ApplyResult(
        applied=changed,
        created=created,
        retry_scheduled=tuple(item.id for item in merged if item.retry_scheduled),
        finished=tuple(item.id for item in merged if item.finished),
        waits=tuple((item.id, item.wait_seconds) for item in merged if item.wait_seconds is not None),
        malformed=malformed,
    )


async def _fetch_known(
    connection: AsyncConnection, database: Database, seen: Mapping[UUID, list[Observation]], now: datetime
) -> tuple[list[Known], tuple[UUID, ...]]:
    """Lock what is on record of the tasks; tasks never seen get an empty row first."""
    known = await _lock(connection, database, sorted(seen))
    found = {item.id for item in known}
    unseen = sorted(seen.keys() - found)
    created: tuple[UUID, ...] = ()
    if unseen:
        await _insert_unseen(connection, database, [seen[task_id] for task_id in unseen], now)
        fresh = await _lock(connection, database, unseen)
        # Position 0 = made just now; otherwise another replica was faster and has applied its events already.
        created = tuple(item.id for item in fresh if item.current.position == 0)
        known += fresh
    await _add_archived(connection, known, seen)
    return known, created


async def _lock(connection: AsyncConnection, database: Database, ids: Sequence[UUID]) -> list[Known]:
    if database.is_postgresql:
        # Through SQLAlchemy, which begins the transaction that the driver's connection is in from then on.
        return [_build_known(tuple(row)) for row in await connection.exec_driver_sql(_LOCK, (ids,))]
    known: list[Known] = []
    for part in chunked(ids):
        query = select(*_KNOWN_COLUMNS).where(tasks.c.id.in_(part)).order_by(tasks.c.id).with_for_update()
        known += [_build_known(tuple(row)) for row in await connection.execute(query)]
    return known


def _build_known(row: Sequence[Any]) -> Known:
    (
        found_id,
        *view,
        due_at,
        created_at,
        origin,
        retry,
        cancel_requested,
        eta,
        published_at,
        has_callback,
        needs_args,
    ) = row
    current = Attempt(**dict(zip(_VIEW_FIELDS, view, strict=True)), due_at=due_at, source="task")
    # The driver's rows hold its own kinds of UUID.
    task_id = UUID(int=found_id.int) if isinstance(found_id, UUID) else UUID(bytes=found_id)
    known = Known(task_id, current, created_at, origin, decode_retry(retry), bool(cancel_requested), bool(needs_args))
    known.has_callback = bool(has_callback)
    # The record of a plain Celery producer's task is made when the task is first seen: when it was due is unknown.
    if origin != "celery":
        known.due_at = max(created_at, eta or created_at) if current.attempt == 1 else published_at
    return known


async def _add_archived(
    connection: AsyncConnection, known: Iterable[Known], seen: Mapping[UUID, list[Observation]]
) -> None:
    """Events of an earlier attempt belong to its archived row; they are rare."""
    late = {item.id: item for item in known if any(one.attempt < item.current.attempt for one in seen[item.id])}
    columns = [task_attempts.c[name] for name in _VIEW_FIELDS]
    for part in chunked(sorted(late)):
        query = select(task_attempts.c.task_id, *columns).where(task_attempts.c.task_id.in_(part)).with_for_update()
        for task_id, *view in await connection.execute(query):
            attempt = Attempt(**dict(zip(_VIEW_FIELDS, view, strict=True)), source="archive")
            late[task_id].archived[attempt.attempt] = attempt


async def _insert_unseen(
    connection: AsyncConnection, database: Database, groups: Sequence[list[Observation]], now: datetime
) -> None:
    rows = [
        {
            "id": group[0].id,
            "queue": group[0].queue,
            "task": group[0].task,
            "state": TaskState.PENDING,
            "position": 0,
            "attempt": 1,
            "retries": 0,
            "progress_count": 0,
            "deliveries": 0,
            "created_at": min(item.at for item in group),
            "updated_at": now,
            "origin": "celery",
            "cancel_requested": False,
            "principal": "",
        }
        for group in groups
    ]
    await connection.execute(build_insert_unless_present(database, tasks, tasks.c.id), rows)


async def _mark_callbacks(
    connection: AsyncConnection, merged: Sequence[Merged], known: Sequence[Known], now: datetime
) -> None:
    ended = [
        item.id
        for item, before in zip(merged, known, strict=True)
        if before.has_callback and item.changed and item.current.finished_at is not None
    ]
    if ended:
        await mark_ended(connection, ended, now)
