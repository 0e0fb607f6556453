"""Column types that mean the same on every database: aware UTC microseconds, 16-byte ids that sort, long text."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BINARY, DateTime, LargeBinary, Text, types
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

__all__ = ["Digest", "JsonText", "TaskId", "UtcTime"]


class UtcTime(types.TypeDecorator[datetime]):
    """An aware datetime, kept in UTC with microseconds."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value if dialect.name == "postgresql" else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


class TaskId(types.TypeDecorator[UUID]):
    """A UUID that sorts by its bytes everywhere (MariaDB's own type does not promise that): 16 bytes."""

    impl = BINARY(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=True))
        if dialect.name == "sqlite":
            return dialect.type_descriptor(LargeBinary())
        return dialect.type_descriptor(BINARY(16))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.bytes

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        if value is None:
            return None
        # asyncpg gives a class of its own, which JSON encoders do not know.
        return UUID(int=value.int) if isinstance(value, UUID) else UUID(bytes=bytes(value))


# JSON stays text: nothing is parsed on the way in, and PostgreSQL's jsonb refuses \u0000 and huge numbers.
JsonText = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")

Digest = LargeBinary(32).with_variant(BINARY(32), "mysql", "mariadb")
"""A SHA-256."""
