"""The history of the queues in SQL: intervals are written once, read by queue, and deleted whole."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Row, Select, bindparam, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from taskfleet_api.records.engine import Database
from taskfleet_api.records.sampling import QueueSample
from taskfleet_api.records.tables import queue_samples, queues, sampled_intervals, tasks
from taskfleet_api.records.texts import chunked, clean_text
from taskfleet_core.states import TaskState

__all__ = ["delete_intervals", "fetch_intervals", "fetch_oldest", "fetch_samples", "has_interval", "save_interval"]

MAX_REASON_LENGTH = 300

_FIELDS = list(QueueSample.__struct_fields__)
_WAITS = _FIELDS.index("waits")
_COLUMNS = [queue_samples.c[name] for name in _FIELDS]
_time = queue_samples.c.at.type


def _build_range(table: Any, query: Select[Any]) -> Select[Any]:
    return query.where(
        table.c.step_seconds == bindparam("step_seconds"),
        table.c.at >= bindparam("since", type_=_time),
        table.c.at < bindparam("until", type_=_time),
    )


_INTERVALS = _build_range(sampled_intervals, select(sampled_intervals.c.at)).order_by(sampled_intervals.c.at)
_OF_QUEUES = queue_samples.c.queue.in_(bindparam("queues", expanding=True))
_SAMPLES = _build_range(queue_samples, select(*_COLUMNS)).where(_OF_QUEUES)
_DEPTHS = _build_range(
    queue_samples, select(*(queue_samples.c[name] for name in ("queue", "at", "ready", "finished")))
).where(_OF_QUEUES)
_HAS_INTERVAL = select(func.count()).where(
    sampled_intervals.c.step_seconds == bindparam("step_seconds"),
    sampled_intervals.c.at == bindparam("at", type_=_time),
)
# The task that was accepted first, and since when the broker has it: one look into an index for each queue.
_first_queued = (
    select(func.coalesce(tasks.c.published_at, tasks.c.created_at))
    .where(tasks.c.queue == queues.c.queue, tasks.c.state == TaskState.QUEUED)
    .order_by(tasks.c.created_at, tasks.c.id)
    .limit(1)
    .correlate(queues)
    .scalar_subquery()
)
_OLDEST = select(queues.c.queue, _first_queued.label("since")).where(
    queues.c.queue.in_(bindparam("queues", expanding=True))
)


async def has_interval(database: Database, step_seconds: int, at: datetime) -> bool:
    """Whether the interval is written."""
    async with database.connect() as connection:
        found = await connection.execute(_HAS_INTERVAL, {"step_seconds": step_seconds, "at": at})
        return bool(found.scalar_one())


async def save_interval(database: Database, step_seconds: int, at: datetime, samples: Sequence[QueueSample]) -> bool:
    """Write an interval with its samples in one transaction; False when another replica has written it."""
    rows = [_build_row(sample, step_seconds, at) for sample in sorted(samples, key=lambda sample: sample.queue)]
    try:
        async with database.begin() as connection:
            await connection.execute(insert(sampled_intervals).values(step_seconds=step_seconds, at=at))
            for part in chunked(rows):
                await connection.execute(insert(queue_samples), part)
    except IntegrityError:
        return False
    return True


async def fetch_intervals(database: Database, step_seconds: int, since: datetime, until: datetime) -> list[datetime]:
    """The beginnings of the intervals in [since, until) that were looked at, the oldest first."""
    async with database.connect() as connection:
        values = {"step_seconds": step_seconds, "since": since, "until": until}
        return list((await connection.execute(_INTERVALS, values)).scalars())


async def fetch_samples(
    database: Database,
    queue_names: Sequence[str],
    step_seconds: int,
    since: datetime,
    until: datetime,
    *,
    lean: bool = False,
) -> list[QueueSample]:
    """The samples in [since, until) of these queues, those of a queue in order of time. `lean`: only depth and ends."""
    values: dict[str, Any] = {"step_seconds": step_seconds, "since": since, "until": until}
    rows: list[Any] = []
    async with database.connect() as connection:
        for part in chunked(list(queue_names)):
            rows += (await connection.execute(_DEPTHS if lean else _SAMPLES, values | {"queues": part})).all()
    if lean:
        samples = [QueueSample(row[0], row[1], ready=row[2], finished=row[3]) for row in rows]
    else:
        samples = [_build_sample(row) for row in rows]
    samples.sort(key=lambda sample: (sample.queue, sample.at))
    return samples


async def fetch_oldest(database: Database, queue_names: Sequence[str]) -> dict[str, datetime]:
    """Of these queues that have a task at the broker: since when the one that was accepted first has been there."""
    found: dict[str, datetime] = {}
    async with database.connect() as connection:
        for part in chunked(list(queue_names)):
            rows = (await connection.execute(_OLDEST, {"queues": part})).all()
            found |= {queue: since for queue, since in rows if since is not None}
    return found


async def delete_intervals(database: Database, step_seconds: int, older_than: datetime, limit: int) -> int:
    """Delete up to `limit` intervals that began before, each with its samples in a transaction; how many."""
    deleted = 0
    query = (
        select(sampled_intervals.c.at)
        .where(sampled_intervals.c.step_seconds == step_seconds, sampled_intervals.c.at < older_than)
        .order_by(sampled_intervals.c.at)
        .limit(limit)
    )
    async with database.connect() as connection:
        begun = (await connection.execute(query)).scalars().all()
    for at in begun:
        async with database.begin() as connection:
            for table in (queue_samples, sampled_intervals):
                await connection.execute(delete(table).where(table.c.step_seconds == step_seconds, table.c.at == at))
        deleted += 1
    return deleted


def _build_row(sample: QueueSample, step_seconds: int, at: datetime) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(sample, name) for name in _FIELDS}
    row["waits"] = orjson.dumps(dict(sample.waits), option=orjson.OPT_NON_STR_KEYS).decode() if sample.waits else None
    row["reason"] = clean_text(sample.reason, MAX_REASON_LENGTH) if sample.reason else None
    return row | {"step_seconds": step_seconds, "at": at}


def _build_sample(row: Row[Any]) -> QueueSample:
    values = list(row)
    waits = values[_WAITS]
    values[_WAITS] = {int(bucket): count for bucket, count in orjson.loads(waits).items()} if waits else {}
    return QueueSample(*values)
