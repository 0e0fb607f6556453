"""The history of the queues."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from taskfleet_api.records.column_types import UtcTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def upgrade() -> None:
    op.create_table(
        "sampled_intervals",
        sa.Column("step_seconds", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("step_seconds", "at"),
        **MYSQL,
    )
    op.create_table(
        "queue_samples",
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("step_seconds", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("ready", sa.BigInteger(), nullable=True),
        sa.Column("running", sa.Double(), nullable=True),
        sa.Column("oldest_wait_seconds", sa.Double(), nullable=True),
        sa.Column("desired", sa.Integer(), nullable=True),
        sa.Column("workers", sa.Integer(), nullable=True),
        sa.Column("arrivals_per_second", sa.Double(), nullable=True),
        sa.Column("finished", sa.BigInteger(), nullable=True),
        sa.Column("failed", sa.BigInteger(), nullable=True),
        sa.Column("waits", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("queue", "step_seconds", "at"),
        **MYSQL,
    )
    op.create_index("ix_queue_samples_interval", "queue_samples", ["step_seconds", "at"])


def downgrade() -> None:
    op.drop_index("ix_queue_samples_interval", table_name="queue_samples")
    op.drop_table("queue_samples")
    op.drop_table("sampled_intervals")
