"""Writing what events made of tasks: all rows of a batch together, by a statement of each database's own."""

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, case, update
from sqlalchemy.ext.asyncio import AsyncConnection

from taskfleet_api.records.engine import Database
from taskfleet_api.records.merging import Merged
from taskfleet_api.records.tables import tasks
from taskfleet_api.records.texts import build_arrays

__all__ = ["write_merged"]

# Columns that are always written, with their array types on PostgreSQL.
_WRITTEN = {
    "state": "text",
    "position": "int8",
    "attempt": "int4",
    "retries": "int4",
    "due_at": "timestamptz",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "worker": "text",
    "worker_at": "timestamptz",
    "runtime_seconds": "float8",
    "deliveries": "int4",
    "progress_count": "int8",
    "created_at": "timestamptz",
}
# Columns that may be large: left alone unless the flag is set.
_GUARDED = {
    "result": ("text", "moved"),
    "result_omitted_bytes": ("int8", "moved"),
    "error": ("text", "moved"),
    "progress": ("text", "progressed"),
    "args": ("text", "has_args"),
    "kwargs": ("text", "has_args"),
}
_FLAGS = ("moved", "progressed", "has_args", "archive")


def _build_write() -> str:
    kinds = {
        "id": "uuid",
        **_WRITTEN,
        **{name: kind for name, (kind, _) in _GUARDED.items()},
        **dict.fromkeys(_FLAGS, "bool"),
    }
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(kinds.values(), start=1))
    sets = [f"{name} = new.{name}" for name in _WRITTEN]
    sets += [
        f"{name} = CASE WHEN new.{flag} THEN new.{name} ELSE tasks.{name} END" for name, (_, flag) in _GUARDED.items()
    ]
    return (
        f"UPDATE tasks SET {', '.join(sets)}, "
        "published_at = CASE WHEN new.archive THEN NULL ELSE tasks.published_at END, "
        f"updated_at = ${len(kinds) + 1} FROM unnest({arrays}) AS new({', '.join(kinds)}) WHERE tasks.id = new.id"
    )


_WRITE = _build_write()
_UPDATE = (
    update(tasks)
    .where(tasks.c.id == bindparam("key"))
    .values(
        **{name: bindparam(f"new_{name}") for name in _WRITTEN},
        **{
            name: case(
                (bindparam(f"new_{flag}", type_=tasks.c.cancel_requested.type), bindparam(f"new_{name}")),
                else_=tasks.c[name],
            )
            for name, (_, flag) in _GUARDED.items()
        },
        published_at=case(
            (bindparam("new_archive", type_=tasks.c.cancel_requested.type), None), else_=tasks.c.published_at
        ),
        updated_at=bindparam("new_updated_at"),
    )
)


# Columns without a default that the many-row update must name; the rows never see these values.
_MYSQL_REQUIRED = {"queue": "", "task": "", "origin": "", "principal": "", "cancel_requested": 0}


async def write_merged(
    connection: AsyncConnection, database: Database, merged: Iterable[Merged], now: datetime
) -> None:
    """Write tasks whose rows are locked, in the order of their ids, in as few statements as the database takes."""
    rows = [_build_values(item) for item in sorted(merged, key=lambda item: item.id)]
    if not rows:
        return
    if database.is_postgresql:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.execute(_WRITE, *build_arrays(rows), now)
        return
    if database.is_mysql:
        await _write_mysql(connection, rows, now)
        return
    names = ["key", *(f"new_{name}" for name in (*_WRITTEN, *_GUARDED, *_FLAGS))]
    await connection.execute(_UPDATE, [{**dict(zip(names, row, strict=True)), "new_updated_at": now} for row in rows])


async def _write_mysql(connection: AsyncConnection, rows: Sequence[tuple[Any, ...]], now: datetime) -> None:
    """One statement for all rows with the same flags: an UPDATE each would be a round trip each."""
    names = ["id", *_WRITTEN, *_GUARDED]
    groups: dict[tuple[Any, ...], list[list[Any]]] = defaultdict(list)
    for row in rows:
        values = [_build_mysql_value(value) for value in row[: len(names)]]
        groups[row[len(names) :]].append([*values, _build_mysql_value(now), *_MYSQL_REQUIRED.values()])
    for flags, group in groups.items():
        statement = _build_mysql_write(frozenset(name for name, flag in zip(_FLAGS, flags, strict=True) if flag))
        await connection.exec_driver_sql(statement, [tuple(values) for values in group])


def _build_mysql_value(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).replace(tzinfo=None)
        case UUID():
            return value.bytes
    return value


@functools.lru_cache(maxsize=16)
def _build_mysql_write(flags: frozenset[str]) -> str:
    """An INSERT that always meets the row, which is locked: the only many-row update that the driver sends as one."""
    names = ["id", *_WRITTEN, *_GUARDED, "updated_at", *_MYSQL_REQUIRED]
    replaced = [*_WRITTEN, *(name for name, (_, flag) in _GUARDED.items() if flag in flags), "updated_at"]
    sets = [f"{name} = VALUES({name})" for name in replaced]
    if "archive" in flags:
        sets.append("published_at = NULL")
    return (
        f"INSERT INTO tasks ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))}) "
        f"ON DUPLICATE KEY UPDATE {', '.join(sets)}"
    )


def _build_values(item: Merged) -> tuple[Any, ...]:
    """The values of one row, in the order of id, _WRITTEN, _GUARDED, _FLAGS."""
    view = item.current
    return (
        item.id,
        view.state,
        view.position,
        view.attempt,
        view.retries,
        view.due_at,
        view.started_at,
        view.finished_at,
        view.worker,
        view.worker_at,
        view.runtime_seconds,
        view.deliveries,
        view.progress_count,
        item.created_at,
        view.result,
        view.result_omitted_bytes,
        view.error,
        view.progress,
        item.args,
        item.kwargs,
        # None, not False, as build_arrays leaves out columns of None; SQL takes both for "no".
        view.moved or item.archive or None,
        view.progressed or item.archive or None,
        item.args is not None or None,
        item.archive or None,
    )
