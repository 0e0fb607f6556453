"""Rows of the references' own tables, on the records' database. Statements only, no meaning."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Table, func, select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskfleet_core.errors import RecordsUnavailableError

__all__ = ["Row", "Rows"]

STATEMENT_TIMEOUT_SECONDS = 10

Row = Mapping[str, Any]


class Rows:
    """One table with the columns `id`, `status`, `record_id` and `updated_at`. Raises RecordsUnavailableError."""

    def __init__(self, engine: AsyncEngine, table: Table) -> None:
        self._engine = engine
        self._table = table

    async def insert(self, values: Mapping[str, Any]) -> Any:
        """Commit a row and return its primary key."""
        async with self._transaction() as connection:
            result = await connection.execute(self._table.insert().values(**values))
            key = result.inserted_primary_key
            return key[0] if key else None

    async def fetch(self, row_id: Any) -> Row | None:
        """The row, or None."""
        async with self._transaction() as connection:
            found = await connection.execute(select(self._table).where(self._table.c.id == row_id))
            row = found.mappings().first()
            return dict(row) if row else None

    async def fetch_page(self, offset: int, limit: int) -> list[Row]:
        """Rows in the order of their ids."""
        query = select(self._table).order_by(self._table.c.id).offset(offset).limit(limit)
        async with self._transaction() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def fetch_with_status(self, statuses: Sequence[str], after: Any, limit: int) -> list[Row]:
        """Rows in one of the statuses, in the order of their ids, behind the id `after` (None: from the first)."""
        ids = self._table.c.id
        query = select(self._table).where(self._table.c.status.in_(statuses)).order_by(ids).limit(limit)
        if after is not None:
            query = query.where(ids > after)
        async with self._transaction() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def count(self) -> int:
        """How many rows there are."""
        async with self._transaction() as connection:
            return int((await connection.execute(select(func.count()).select_from(self._table))).scalar_one())

    async def update(self, row_id: Any, values: Mapping[str, Any], *, while_status: str | None = None) -> bool:
        """Change one row; with `while_status` only if it still has that status. False when nothing matched."""
        return await self.update_many([(row_id, values, while_status)]) == 1

    async def update_many(self, changes: Sequence[tuple[Any, Mapping[str, Any], str | None]]) -> int:
        """Change several rows in one transaction: (id, values, status that the row must still have)."""
        changed = 0
        async with self._transaction() as connection:
            for row_id, values, while_status in changes:
                statement = self._table.update().where(self._table.c.id == row_id).values(**values)
                if while_status is not None:
                    statement = statement.where(self._table.c.status == while_status)
                changed += (await connection.execute(statement)).rowcount
        return changed

    async def delete(self, row_id: Any) -> bool:
        """Remove one row; False when it was not there."""
        async with self._transaction() as connection:
            result = await connection.execute(self._table.delete().where(self._table.c.id == row_id))
            return bool(result.rowcount)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS), self._engine.begin() as connection:
                yield connection
        except (TimeoutError, PoolTimeoutError, OperationalError, OSError) as error:
            raise RecordsUnavailableError(f"the database did not answer for {self._table.name}") from error
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise RecordsUnavailableError(f"the database closed the connection for {self._table.name}") from error
