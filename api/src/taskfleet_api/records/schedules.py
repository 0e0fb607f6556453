"""Periodic tasks: their definitions, and ticks of which each becomes one task over all replicas."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

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


async def put_schedule(database: Database, schedule: ScheduleRecord) -> bool:
    """Create or replace; whether it was created."""
    defined = {
        "queue": schedule.queue,
        "task": schedule.task,
        "spec": schedule.spec_json,
        "paused": schedule.paused,
        "next_at": schedule.next_at,
        "updated_at": schedule.updated_at,
    }
    async with database.begin() as connection:
        found = await connection.execute(select(schedules.c.id).where(schedules.c.id == schedule.id).with_for_update())
        if found.one_or_none() is not None:
            await connection.execute(update(schedules).where(schedules.c.id == schedule.id).values(defined))
            return False
        await connection.execute(insert(schedules).values(id=schedule.id, created_at=schedule.created_at, **defined))
        return True


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
