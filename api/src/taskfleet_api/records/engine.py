"""Connections: URLs to engines, transactions with a time limit, retries after deadlocks, and one mapping of errors.

PostgreSQL's hot paths speak asyncpg directly through the same pool; SQLite has one writing connection per process.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiomysql
import asyncpg
import pymysql.converters  # type: ignore[import-untyped]  # no stubs are published
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from taskfleet_api.records.sqlite_connection import SqliteConnections
from taskfleet_core.errors import InvalidInputError, RecordsUnavailableError, TaskfleetError

__all__ = ["Database", "build_async_url", "open_database"]

T = TypeVar("T")

DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
    "sqlite": "sqlite+aiosqlite",
}

MAX_TRIES = 5
"""How often a transaction that was chosen as a deadlock victim is tried."""

DEADLOCK_SQLSTATES = {"40001", "40P01"}
DEADLOCK_NUMBERS = {1205, 1213, 1020}
# A migration of a newer replica invalidated prepared statements; the driver has dropped them by now.
STALE_STATEMENT = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
# Connection trouble, resources, operator intervention (cancelled by a time limit, shutdown), system errors.
UNAVAILABLE_SQLSTATES = ("08", "53", "57", "58", "25P03")


def build_async_url(url: str) -> URL:
    """The SQLAlchemy URL with the asynchronous driver; raises InvalidInputError for what no driver here speaks."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise InvalidInputError("the database URL cannot be parsed") from error
    family = parsed.drivername.split("+", maxsplit=1)[0]
    if family not in DRIVERS:
        raise InvalidInputError(f"unknown database {family!r}: use postgresql, mysql or sqlite")
    if family == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise InvalidInputError("SQLite needs a file: sqlite:///path/to/records.sqlite")
    return parsed.set(drivername=DRIVERS[family])


def _take_tls(url: URL) -> tuple[URL, dict[str, Any]]:
    """Translate libpq's `sslmode` and `sslrootcert` and MySQL's `ssl-mode` and `ssl-ca` of the URL for the driver."""
    query = dict(url.query)
    mode = str(query.pop("sslmode", query.pop("ssl-mode", query.pop("ssl_mode", "")))).lower().replace("-", "_")
    ca_file = query.pop("sslrootcert", query.pop("ssl-ca", query.pop("ssl_ca", None)))
    url = url.set(query=query)
    if not mode or mode in ("disable", "disabled"):
        return url, {}
    is_postgresql = url.drivername.startswith("postgresql")
    if is_postgresql and not (ca_file and mode.startswith("verify")):
        return url, {"ssl": mode.replace("_", "-")}  # the driver looks where libpq would
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    if is_postgresql or mode == "verify_ca":
        context.check_hostname = mode == "verify_full"
    if not mode.startswith("verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return url, {"ssl": context}


class Database:
    """The engines of one database and the rules that every statement follows."""

    def __init__(
        self,
        write: AsyncEngine,
        read: AsyncEngine,
        timeout_seconds: float,
        sqlite_connections: SqliteConnections | None = None,
    ) -> None:
        self.write = write
        self.read = read
        self.timeout_seconds = timeout_seconds
        self._sqlite_connections = sqlite_connections
        self.is_postgresql = write.dialect.name == "postgresql"
        self.is_mysql = write.dialect.name in ("mysql", "mariadb")
        self.is_sqlite = write.dialect.name == "sqlite"

    async def close(self) -> None:
        """Close every connection."""
        await self.write.dispose()
        if self.read is not self.write:
            await self.read.dispose()
        if self._sqlite_connections is not None:
            await self._sqlite_connections.wait_ended(self.timeout_seconds)

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[AsyncConnection]:
        """A writing transaction."""
        async with self.write.begin() as connection:
            yield connection

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[AsyncConnection]:
        """A connection for reading."""
        async with self.read.connect() as connection:
            yield connection

    @asynccontextmanager
    async def raw(self, *, transaction: bool = True) -> AsyncGenerator[Any]:
        """The asyncpg connection itself, in a transaction unless one statement is all (it commits by itself).

        A connection whose state is unknown (cancelled, broken) is thrown away, never waited for.
        """
        async with self.write.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            try:
                if transaction:
                    await raw.execute("BEGIN")
                yield raw
                if transaction:
                    await raw.execute("COMMIT")
            except (asyncpg.PostgresError, TaskfleetError):
                if transaction and not raw.is_closed():
                    await raw.execute("ROLLBACK")
                raise
            except BaseException:
                raw.terminate()
                await connection.invalidate()
                raise

    async def run(self, doing: str, work: Callable[[], Awaitable[T]], *, timeout_seconds: float | None = None) -> T:
        """Do one transaction's work in bounded time, again if it was undone for another; map errors."""
        try:
            async with asyncio.timeout(timeout_seconds or self.timeout_seconds):
                return await _retry_undone(work)
        except Exception as error:
            if not is_unavailable(error):
                raise
            raise RecordsUnavailableError(f"the database does not answer ({doing}: {describe(error)})") from error


async def _retry_undone(work: Callable[[], Awaitable[T]]) -> T:
    for number in range(1, MAX_TRIES):
        try:
            return await work()
        except Exception as error:
            if not is_undone(error):
                raise
        await asyncio.sleep(random.uniform(0, 0.02 * number))
    return await work()


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what the driver said underneath."""
    found: list[BaseException] = [error]
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        found.append(error.orig)
    cause = found[-1].__cause__
    if cause is not None:
        found.append(cause)
    return found


def _sqlstate(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def is_undone(error: BaseException) -> bool:
    """Whether the database undid this transaction only in favour of another one, or of a change of the schema."""
    for item in _chain(error):
        if _sqlstate(item) in DEADLOCK_SQLSTATES or isinstance(item, STALE_STATEMENT):
            return True
        if isinstance(item, exc.DBAPIError) and item.orig is not None and item.orig.args[:1]:
            code = item.orig.args[0]
            if isinstance(code, int) and code in DEADLOCK_NUMBERS:
                return True
    return False


def is_unavailable(error: BaseException) -> bool:
    """Whether the error means that the database cannot be reached or does not keep up."""
    if isinstance(error, TaskfleetError):
        return False
    if isinstance(error, OSError | TimeoutError | exc.TimeoutError | asyncpg.InterfaceError):
        return True
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    if any(_sqlstate(item).startswith(UNAVAILABLE_SQLSTATES) for item in _chain(error)):
        return True
    return isinstance(error, exc.OperationalError | exc.InterfaceError) or is_undone(error)


def describe(error: BaseException) -> str:
    """The kind of error in one word; never its text, which may hold addresses or data."""
    return type(_chain(error)[-1]).__name__


def open_database(url: str, *, pool_size: int, timeout_seconds: float) -> Database:
    """Build the engines; nothing is connected yet."""
    parsed, connect_args = _take_tls(build_async_url(url))
    options: dict[str, Any] = {"hide_parameters": True, "pool_timeout": timeout_seconds, "pool_recycle": 1800}
    if parsed.drivername.startswith("sqlite"):
        return _open_sqlite(parsed, pool_size, timeout_seconds, options)
    options |= {"pool_size": pool_size, "max_overflow": 0}
    if parsed.drivername.startswith("postgresql"):
        milliseconds = str(int(timeout_seconds * 1000))
        connect_args |= {
            "timeout": min(timeout_seconds, 5.0),
            "command_timeout": timeout_seconds,
            "server_settings": {
                "application_name": "taskfleet-api",
                "statement_timeout": milliseconds,
                "lock_timeout": milliseconds,
                "idle_in_transaction_session_timeout": str(int(timeout_seconds * 2000)),
                "jit": "off",
            },
        }
        engine = create_async_engine(parsed, connect_args=connect_args, **options)
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
    else:
        _repair_aiomysql()
        connect_args |= {"connect_timeout": min(timeout_seconds, 5.0), "charset": "utf8mb4"}
        # No gap locks: with MySQL's default level concurrent inserts of idempotency keys deadlock.
        options |= {"pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
        engine = create_async_engine(parsed, connect_args=connect_args, **options)
    return Database(engine, engine, timeout_seconds)


def _repair_aiomysql() -> None:
    """aiomysql 0.3.2 escapes bytes with a function that PyMySQL 1.2 replaced by a string."""
    if not callable(aiomysql.connection.escape_bytes_prefixed):
        aiomysql.connection.escape_bytes_prefixed = pymysql.converters.escape_bytes


def _refuse_closed(adapted: Any, _record: Any, _proxy: Any) -> None:
    """asyncpg knows at once when its server is gone: such a connection is replaced without a round trip."""
    if adapted.driver_connection.is_closed():
        raise exc.DisconnectionError


def _open_sqlite(url: URL, pool_size: int, timeout_seconds: float, options: dict[str, Any]) -> Database:
    connections = SqliteConnections()
    connect_args = {"timeout": timeout_seconds, "async_creator_fn": connections.connect}
    write = create_async_engine(url, pool_size=1, max_overflow=0, connect_args=connect_args, **options)
    read = create_async_engine(url, pool_size=pool_size, max_overflow=0, connect_args=connect_args, **options)
    for engine, begin in ((write, "BEGIN IMMEDIATE"), (read, "BEGIN")):
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _build_begin(begin))
    return Database(write, read, timeout_seconds, connections)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; the "begin" event does
    cursor = connection.cursor()
    # FULL: a commit survives a power cut, as on the servers; NORMAL would only survive the process.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY", "cache_size=-32000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _build_begin(statement: str) -> Callable[[Any], None]:
    def begin(connection: Any) -> None:
        connection.exec_driver_sql(statement)

    return begin
