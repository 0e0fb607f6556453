"""The two tables that references 003 and 004 show: their own shape, beside the records. Timestamps are naive UTC."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects import mysql

__all__ = ["async_tasks", "metadata", "now_utc", "processing_tasks"]

# As the records: byte-wise comparison, every character.
MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}

metadata = MetaData()
# MySQL cuts fractions of a second unless told otherwise.
Timestamp = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

processing_tasks = Table(
    "reference_003_tasks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(255), nullable=False),
    Column("status", String(16), nullable=False),
    Column("result", Text),
    Column("record_id", String(36)),  # the accepted task; null until it is accepted
    Column("created_at", Timestamp, nullable=False),
    Column("updated_at", Timestamp, nullable=False),
    Index("reference_003_tasks_status", "status", "id"),
    sqlite_autoincrement=True,  # an id is never used again, as on the servers
    **MYSQL,
)

async_tasks = Table(
    "reference_004_tasks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("title", String(255), nullable=False),
    Column("description", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("metadata", JSON(none_as_null=True)),
    Column("record_id", String(36)),
    Column("created_at", Timestamp, nullable=False),
    Column("updated_at", Timestamp, nullable=False),
    Column("completed_at", Timestamp),
    Index("reference_004_tasks_status", "status", "id"),
    **MYSQL,
)


def now_utc() -> datetime:
    """The present in the tables' form."""
    return datetime.now(UTC).replace(tzinfo=None)
