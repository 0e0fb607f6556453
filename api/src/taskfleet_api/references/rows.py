"""Rows of the references' own tables, on the records' database. Statements only, no meaning."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from taskfleet_api.records.engine import Database

__all__ = ["Row", "RowChange", "Rows"]

T = TypeVar("T")
Row = Mapping[str, Any]
RowChange = tuple[Any, Mapping[str, Any], str | None]
"""A row's id, its new values, and the status that it must still have (None: any)."""


class Rows:
    """One table with the columns `id`, `status`, `record_id` and `updated_at`. Raises RecordsUnavailableError."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table

    async def insert(self, values: Mapping[str, Any]) -> Any:
        """Commit a row and return its primary key."""

        async def work(connection: AsyncConnection) -> Any:
            result = await connection.execute(self._table.insert().values(**values))
            key = result.inserted_primary_key
            return key[0] if key else None

        return await self._write("inserting a row", work)

    async def fetch(self, row_id: Any) -> Row | None:
        """The row, or None."""
        rows = await self._read(select(self._table).where(self._table.c.id == row_id))
        return rows[0] if rows else None

    async def fetch_page(self, offset: int, limit: int) -> list[Row]:
        """Rows in the order of their ids."""
        return await self._read(select(self._table).order_by(self._table.c.id).offset(offset).limit(limit))

    async def fetch_with_status(self, statuses: Sequence[str], after: Any, limit: int) -> list[Row]:
        """Rows in one of the statuses, in the order of their ids, behind the id `after` (None: from the first)."""
        ids = self._table.c.id
        query = select(self._table).where(self._table.c.status.in_(statuses)).order_by(ids).limit(limit)
        return await self._read(query if after is None else query.where(ids > after))

    async def update(self, row_id: Any, values: Mapping[str, Any], *, while_status: str | None = None) -> bool:
        """Change one row; with `while_status` only if it still has that status. False when nothing matched."""
        return await self.update_many([(row_id, values, while_status)]) == 1

    async def update_many(self, changes: Sequence[RowChange]) -> int:
        """Change several rows in one transaction; how many matched."""

        async def work(connection: AsyncConnection) -> int:
            changed = 0
            for row_id, values, while_status in changes:
                statement = self._table.update().where(self._table.c.id == row_id).values(**values)
                if while_status is not None:
                    statement = statement.where(self._table.c.status == while_status)
                changed += (await connection.execute(statement)).rowcount
            return changed

        return await self._write("updating rows", work)

    async def delete(self, row_id: Any) -> bool:
        """Remove one row; False when it was not there."""

        async def work(connection: AsyncConnection) -> bool:
            return bool((await connection.execute(self._table.delete().where(self._table.c.id == row_id))).rowcount)

        return await self._write("deleting a row", work)

    async def _read(self, query: Select[Any]) -> list[Row]:
        async def work() -> list[Row]:
            async with self._database.connect() as connection:
                return [dict(row) for row in (await connection.execute(query)).mappings()]

        return await self._database.run(f"reading {self._table.name}", work)

    async def _write(self, doing: str, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def transaction() -> T:
            async with self._database.begin() as connection:
                return await work(connection)

        return await self._database.run(f"{doing} of {self._table.name}", transaction)
