"""The tables. What the indexes are for stands beside them; the migrations create exactly this (a test compares)."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    and_,
)

from taskfleet_api.records.column_types import Digest, JsonText, TaskId, UtcTime
from taskfleet_api.records.model import MAX_LABEL_LENGTH, MAX_NAME_LENGTH

__all__ = [
    "api_keys",
    "callbacks",
    "idempotency_keys",
    "metadata",
    "queue_samples",
    "queues",
    "sampled_intervals",
    "schedule_ticks",
    "schedules",
    "task_attempts",
    "task_labels",
    "tasks",
]

# Byte-wise comparison everywhere: MySQL's default would take `Mail` and `mail` for the same queue.
MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}

metadata = MetaData()

name = String(MAX_NAME_LENGTH)
state = String(16)


def _attempt_columns() -> list[Column[Any]]:
    """What is known of one attempt; made twice, as a Column belongs to one table."""
    return [
        Column("state", state, nullable=False),
        Column("position", BigInteger, nullable=False),
        Column("retries", Integer, nullable=False),
        Column("published_at", UtcTime),
        Column("started_at", UtcTime),
        Column("finished_at", UtcTime),
        Column("worker", name),
        Column("worker_at", UtcTime),  # when `worker` was last heard of: the newest name wins, in any order
        Column("result", JsonText),
        Column("result_omitted_bytes", BigInteger),
        Column("error", JsonText),
        Column("progress", JsonText),
        Column("progress_count", BigInteger, nullable=False),
        Column("runtime_seconds", Double),
        Column("deliveries", Integer, nullable=False),
    ]


tasks = Table(
    "tasks",
    metadata,
    Column("id", TaskId, primary_key=True),
    Column("queue", name, nullable=False),
    Column("task", name, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("args", JsonText),
    Column("kwargs", JsonText),
    Column("metadata", JsonText),
    Column("priority", SmallInteger),
    Column("eta", UtcTime),
    Column("expires_at", UtcTime),
    Column("due_at", UtcTime),
    Column("retry", JsonText),
    Column("timeout_seconds", Double),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("traceparent", name),
    Column("origin", String(16), nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("principal", name, nullable=False),
    Column("has_callback", Boolean),  # None for no; spares all others a look into the callbacks
    *_attempt_columns(),
    postgresql_with={"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.05},
    **MYSQL,
)
# Listings walk one index per state from the newest on, so a page costs the same at any size of the table.
Index("ix_tasks_queue", tasks.c.queue, tasks.c.state, tasks.c.created_at, tasks.c.id)
Index("ix_tasks_state", tasks.c.state, tasks.c.created_at, tasks.c.id)
# The sweeper: only what is due sooner or later stands in these, where the dialect has partial indexes.
_is_due = tasks.c.due_at.is_not(None)
_may_expire = and_(tasks.c.expires_at.is_not(None), tasks.c.finished_at.is_(None))
Index("ix_tasks_due", tasks.c.due_at, postgresql_where=_is_due, sqlite_where=_is_due)
Index(
    "ix_tasks_expires",
    tasks.c.finished_at,
    tasks.c.expires_at,
    postgresql_where=_may_expire,
    sqlite_where=_may_expire,
)

task_attempts = Table(
    "task_attempts",
    metadata,
    Column("task_id", TaskId, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    *_attempt_columns(),
    **MYSQL,
)

task_labels = Table(
    "task_labels",
    metadata,
    Column("key", String(MAX_LABEL_LENGTH), primary_key=True),
    Column("value", String(MAX_LABEL_LENGTH), primary_key=True),
    Column("created_at", UtcTime, primary_key=True),  # of the task: a label's tasks are read newest first
    Column("task_id", TaskId, primary_key=True),
    **MYSQL,
)
Index("ix_task_labels_task", task_labels.c.task_id)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("digest", Digest, primary_key=True),  # of principal and key: any length, compared byte by byte
    Column("body_hash", Digest, nullable=False),
    Column("task_id", TaskId, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    **MYSQL,
)
Index("ix_idempotency_keys_created", idempotency_keys.c.created_at)

schedules = Table(
    "schedules",
    metadata,
    Column("id", name, primary_key=True),
    Column("queue", name, nullable=False),
    Column("task", name, nullable=False),
    Column("spec", JsonText, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("next_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("last_tick_at", UtcTime),
    Column("last_task_id", TaskId),
    **MYSQL,
)
Index("ix_schedules_next", schedules.c.next_at)

schedule_ticks = Table(
    "schedule_ticks",
    metadata,
    Column("schedule_id", name, primary_key=True),
    Column("tick_at", UtcTime, primary_key=True),
    Column("task_id", TaskId, nullable=False),
    **MYSQL,
)
Index("ix_schedule_ticks_at", schedule_ticks.c.tick_at)

queues = Table(
    "queues",
    metadata,
    Column("queue", name, primary_key=True),
    Column("registration", JsonText),
    Column("catalog", JsonText),
    Column("updated_at", UtcTime, nullable=False),
    **MYSQL,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("name", name, primary_key=True),
    Column("digest", Digest, nullable=False),  # of the key; the key itself is nowhere
    Column("scopes", JsonText, nullable=False),
    Column("queues", JsonText),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    **MYSQL,
)
Index("ix_api_keys_digest", api_keys.c.digest, unique=True)

callbacks = Table(
    "callbacks",
    metadata,
    Column("task_id", TaskId, primary_key=True),
    Column("url", Text, nullable=False),
    Column("receiver", String(300), nullable=False),
    Column("state", state, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due_at", UtcTime),
    Column("updated_at", UtcTime, nullable=False),
    Column("last_status", SmallInteger),
    Column("last_error", String(200)),
    **MYSQL,
)
# Those to be delivered by the time they are due, without those of receivers that are busy; and in the order of their
# tasks those that still wait for their task's end.
Index("ix_callbacks_due", callbacks.c.state, callbacks.c.due_at, callbacks.c.receiver)

# The history of the queues. An interval that was looked at has a row here; a queue has none of its own where nothing
# was there, so that sleeping queues cost nothing. Bounded by deleting old intervals.
sampled_intervals = Table(
    "sampled_intervals",
    metadata,
    Column("step_seconds", SmallInteger, primary_key=True, autoincrement=False),
    Column("at", UtcTime, primary_key=True),  # its beginning
    **MYSQL,
)

queue_samples = Table(
    "queue_samples",
    metadata,
    Column("queue", name, primary_key=True),
    Column("step_seconds", SmallInteger, primary_key=True, autoincrement=False),
    Column("at", UtcTime, primary_key=True),
    Column("ready", BigInteger),
    Column("running", Double),
    Column("oldest_wait_seconds", Double),
    Column("desired", Integer),
    Column("workers", Integer),
    Column("arrivals_per_second", Double),
    Column("finished", BigInteger),
    Column("failed", BigInteger),
    Column("waits", Text),  # JSON: bucket -> count
    Column("reason", Text),
    **MYSQL,
)
# Intervals are read whole to be rolled up, and deleted whole.
Index("ix_queue_samples_interval", queue_samples.c.step_seconds, queue_samples.c.at)
