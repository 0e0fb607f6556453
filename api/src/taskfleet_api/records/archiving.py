"""Earlier attempts: a task's attempt becomes a row of its own when the next one begins."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from taskfleet_api.records.merging import Attempt
from taskfleet_api.records.tables import task_attempts, tasks
from taskfleet_api.records.texts import chunked

__all__ = ["archive_attempts", "write_attempts"]

_COPIED = [column.name for column in task_attempts.columns if column.name != "task_id"]

_VIEW = ("started_at", "worker", "worker_at", "deliveries")
_OUTCOME = ("state", "position", "retries", "finished_at", "runtime_seconds", "result", "result_omitted_bytes", "error")
_PROGRESS = ("progress", "progress_count")


async def archive_attempts(connection: AsyncConnection, ids: Sequence[UUID]) -> None:
    """Copy the current attempts of these tasks, as they are on record, to the earlier ones."""
    for part in chunked(sorted(ids)):
        copy = select(tasks.c.id, *(tasks.c[name] for name in _COPIED)).where(tasks.c.id.in_(part))
        await connection.execute(insert(task_attempts).from_select(["task_id", *_COPIED], copy))


async def write_attempts(connection: AsyncConnection, views: Sequence[tuple[UUID, Attempt]]) -> None:
    """Write what late events changed in earlier attempts; attempts never on record are inserted."""
    for task_id, view in views:
        if view.source == "new":
            names = (*_VIEW, *_OUTCOME, *_PROGRESS)
            values = {name: getattr(view, name) for name in names}
            await connection.execute(insert(task_attempts).values(task_id=task_id, attempt=view.attempt, **values))
        else:
            names = (*_VIEW, *(_OUTCOME if view.moved else ()), *(_PROGRESS if view.progressed else ()))
            values = {name: getattr(view, name) for name in names}
            await connection.execute(_build_update(names), {"key": task_id, "number": view.attempt, **values})


def _build_update(names: Sequence[str]) -> Any:
    return (
        update(task_attempts)
        .where(task_attempts.c.task_id == bindparam("key"), task_attempts.c.attempt == bindparam("number"))
        .values({name: bindparam(name) for name in names})
    )
