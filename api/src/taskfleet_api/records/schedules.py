"""Periodic tasks: their definitions, and ticks of which each becomes one task over all replicas."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from taskfleet_api.records.engine import Database
from taskfleet_api.records.model import NewTask, ScheduleRecord
from taskfleet_api.records.submitting import insert_rows
from taskfleet_api.records.tables import schedule_ticks, schedules

__all__ = [
    "delete_schedule",
    "fetch_due_schedules",
    "fetch_schedule",
    "insert_tick_tasks",
    "list_schedules",
    "put_schedule",
]

_COLUMNS = [schedules.c["spec" if name == "spec_json" else name] for name in ScheduleRecord.__dataclass_fields__]


def _build_schedule(row: Row[Any]) -> ScheduleRecord:
    values = dict(zip(ScheduleRecord.__dataclass_fields__, row, strict=True))
    return ScheduleRecord(**{**values, "paused": bool(values["paused"])})


async def put_schedule(
    database: Database, schedule: ScheduleRecord, may_replace: Callable[[str], bool] = lambda _queue: True
) -> bool | None:
    """Create or replace; whether it was created. None: there is one, of a queue that may not be replaced."""
    try:
        return await _put_schedule(database, schedule, may_replace)
    except IntegrityError:  # somebody else made it meanwhile: there is one now
        return await _put_schedule(database, schedule, may_replace)


async def _put_schedule(
    database: Database, schedule: ScheduleRecord, may_replace: Callable[[str], bool]
) -> bool | None:
    defined = {
        "queue": schedule.queue,
        "task": schedule.task,
        "spec": schedule.spec_json,
        "paused": schedule.paused,
        "next_at": schedule.next_at,
        "updated_at": schedule.updated_at,
    }
    is_it = schedules.c.id == schedule.id
    async with database.begin() as connection:
        queue = await connection.scalar(select(schedules.c.queue).where(is_it).with_for_update())
        if queue is None:
            await connection.execute(
                insert(schedules).values(id=schedule.id, created_at=schedule.created_at, **defined)
            )
            return True
        if not may_replace(queue):
            return None
        await connection.execute(update(schedules).where(is_it).values(defined))
        return False


async def fetch_schedule(database: Database, schedule_id: str) -> ScheduleRecord | None:
    """One schedule."""
    async with database.connect() as connection:
        row = (await connection.execute(select(*_COLUMNS).where(schedules.c.id == schedule_id))).one_or_none()
    return None if row is None else _build_schedule(row)


async def list_schedules(database: Database, after: str | None, limit: int) -> list[ScheduleRecord]:
    """Schedules in the order of their ids."""
    query = select(*_COLUMNS).order_by(schedules.c.id).limit(limit)
    if after is not None:
        query = query.where(schedules.c.id > after)
    return await _fetch(database, query)


async def _fetch(database: Database, query: Any) -> list[ScheduleRecord]:
    async with database.connect() as connection:
        return [_build_schedule(row) for row in await connection.execute(query)]


async def delete_schedule(database: Database, schedule_id: str) -> bool:
    """Delete; its ticks stay until they are old, so that a schedule made again repeats none."""
    async with database.begin() as connection:
        deleted = await connection.execute(delete(schedules).where(schedules.c.id == schedule_id))
    return deleted.rowcount > 0


async def fetch_due_schedules(database: Database, now: datetime, limit: int) -> list[ScheduleRecord]:
    """Schedules whose next tick is due."""
    is_due = (schedules.c.next_at <= now, schedules.c.paused.is_(False))
    return await _fetch(database, select(*_COLUMNS).where(*is_due).order_by(schedules.c.next_at).limit(limit))


async def insert_tick_tasks(
    database: Database,
    schedule_id: str,
    tick_at: datetime,
    next_at: datetime | None,
    task: NewTask | None,
    grace: timedelta,
) -> bool:
    """Record one tick; see Records.insert_tick_tasks."""
    moved: dict[str, Any] = {"next_at": next_at}
    if task is not None:
        moved |= {"last_tick_at": tick_at, "last_task_id": task.id}
    # The row's own due time decides: once a replica moved it on, this tick is no longer due for anyone.
    is_due = (schedules.c.id == schedule_id, schedules.c.next_at <= tick_at, schedules.c.paused.is_(False))
    async with database.begin() as connection:
        taken = await connection.execute(update(schedules).where(*is_due).values(moved))
        if taken.rowcount == 0:
            return False
        if task is None:
            return True
        known = select(schedule_ticks.c.task_id).where(
            schedule_ticks.c.schedule_id == schedule_id, schedule_ticks.c.tick_at == tick_at
        )
        if (await connection.execute(known)).one_or_none() is not None:
            return False  # a schedule that was deleted or set back: moved on, but the tick is not repeated
        await connection.execute(
            insert(schedule_ticks).values(schedule_id=schedule_id, tick_at=tick_at, task_id=task.id)
        )
        await insert_rows(connection, [task], grace)
        return True
