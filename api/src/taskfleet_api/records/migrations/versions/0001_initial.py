"""The first schema of the records."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from taskfleet_api.records.column_types import Digest, JsonText, TaskId, UtcTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("digest", Digest, nullable=False),
        sa.Column("body_hash", Digest, nullable=False),
        sa.Column("task_id", TaskId(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        **MYSQL,
    )
    op.create_index("ix_idempotency_keys_created", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "queues",
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("registration", JsonText, nullable=True),
        sa.Column("catalog", JsonText, nullable=True),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("queue"),
        **MYSQL,
    )
    op.create_table(
        "schedule_ticks",
        sa.Column("schedule_id", sa.String(length=255), nullable=False),
        sa.Column("tick_at", UtcTime(), nullable=False),
        sa.Column("task_id", TaskId(), nullable=False),
        sa.PrimaryKeyConstraint("schedule_id", "tick_at"),
        **MYSQL,
    )
    op.create_index("ix_schedule_ticks_at", "schedule_ticks", ["tick_at"], unique=False)
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("task", sa.String(length=255), nullable=False),
        sa.Column("spec", JsonText, nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("next_at", UtcTime(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("last_tick_at", UtcTime(), nullable=True),
        sa.Column("last_task_id", TaskId(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **MYSQL,
    )
    op.create_index("ix_schedules_next", "schedules", ["next_at"], unique=False)
    op.create_table(
        "task_attempts",
        sa.Column("task_id", TaskId(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("published_at", UtcTime(), nullable=True),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.Column("worker", sa.String(length=255), nullable=True),
        sa.Column("worker_at", UtcTime(), nullable=True),
        sa.Column("result", JsonText, nullable=True),
        sa.Column("result_omitted_bytes", sa.BigInteger(), nullable=True),
        sa.Column("error", JsonText, nullable=True),
        sa.Column("progress", JsonText, nullable=True),
        sa.Column("progress_count", sa.BigInteger(), nullable=False),
        sa.Column("runtime_seconds", sa.Double(), nullable=True),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "attempt"),
        **MYSQL,
    )
    op.create_table(
        "task_labels",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("task_id", TaskId(), nullable=False),
        sa.PrimaryKeyConstraint("key", "value", "created_at", "task_id"),
        **MYSQL,
    )
    op.create_index("ix_task_labels_task", "task_labels", ["task_id"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", TaskId(), nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("task", sa.String(length=255), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("args", JsonText, nullable=True),
        sa.Column("kwargs", JsonText, nullable=True),
        sa.Column("metadata", JsonText, nullable=True),
        sa.Column("priority", sa.SmallInteger(), nullable=True),
        sa.Column("eta", UtcTime(), nullable=True),
        sa.Column("expires_at", UtcTime(), nullable=True),
        sa.Column("due_at", UtcTime(), nullable=True),
        sa.Column("retry", JsonText, nullable=True),
        sa.Column("timeout_seconds", sa.Double(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("traceparent", sa.String(length=255), nullable=True),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("principal", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("published_at", UtcTime(), nullable=True),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.Column("worker", sa.String(length=255), nullable=True),
        sa.Column("worker_at", UtcTime(), nullable=True),
        sa.Column("result", JsonText, nullable=True),
        sa.Column("result_omitted_bytes", sa.BigInteger(), nullable=True),
        sa.Column("error", JsonText, nullable=True),
        sa.Column("progress", JsonText, nullable=True),
        sa.Column("progress_count", sa.BigInteger(), nullable=False),
        sa.Column("runtime_seconds", sa.Double(), nullable=True),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.05},
        **MYSQL,
    )
    op.create_index(
        "ix_tasks_due",
        "tasks",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_tasks_expires",
        "tasks",
        ["finished_at", "expires_at"],
        unique=False,
        postgresql_where=sa.text("expires_at IS NOT NULL AND finished_at IS NULL"),
        sqlite_where=sa.text("expires_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index("ix_tasks_queue", "tasks", ["queue", "state", "created_at", "id"], unique=False)
    op.create_index("ix_tasks_state", "tasks", ["state", "created_at", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_tasks_state", table_name="tasks")
    op.drop_index("ix_tasks_queue", table_name="tasks")
    op.drop_index(
        "ix_tasks_expires",
        table_name="tasks",
        postgresql_where=sa.text("expires_at IS NOT NULL AND finished_at IS NULL"),
        sqlite_where=sa.text("expires_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.drop_index(
        "ix_tasks_due",
        table_name="tasks",
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.drop_table("tasks")
    op.drop_index("ix_task_labels_task", table_name="task_labels")
    op.drop_table("task_labels")
    op.drop_table("task_attempts")
    op.drop_index("ix_schedules_next", table_name="schedules")
    op.drop_table("schedules")
    op.drop_index("ix_schedule_ticks_at", table_name="schedule_ticks")
    op.drop_table("schedule_ticks")
    op.drop_table("queues")
    op.drop_index("ix_idempotency_keys_created", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
