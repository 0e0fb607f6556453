"""SQLite's connections, each with a thread of its own: they may be told to end twice, and are waited for."""

import asyncio
import contextlib
import sqlite3
import time
from typing import Any

import aiosqlite

__all__ = ["SqliteConnections"]

ROWS_AT_ONCE = 64  # that the driver fetches of an iterated cursor, its own default


class _Database(sqlite3.Connection):
    """Rolls back when it is closed. SQLite does so only when nobody holds a statement any more, and the cursor of a
    task that was cancelled lives in its traceback: until that is garbage, nobody else could write."""

    def close(self) -> None:
        """Give up what is under way, and close."""
        with contextlib.suppress(sqlite3.Error):  # closed already
            self.rollback()
        super().close()


class _Connection(aiosqlite.Connection):
    """Ends its thread once. SQLAlchemy gives a second order when a task is cancelled while its connection closes, and
    aiosqlite 0.22.1 then waits for the answer of a thread that is gone: a wait without an end, which also swallows the
    cancellation, so that the event loop, and the process with it, cannot end."""

    @property
    def is_ending(self) -> bool:
        """Whether its thread was told to end, and has not yet."""
        return not self._running and self._thread.is_alive()

    def stop(self) -> asyncio.Future[Any] | None:
        """Have the thread close the connection and end; nothing to wait for when it was told so before."""
        return super().stop() if self._running else None

    def join(self, timeout_seconds: float) -> None:
        """Block until the thread has ended."""
        self._thread.join(timeout_seconds)


class SqliteConnections:
    """Those of one database."""

    def __init__(self) -> None:
        self._ending_or_open: list[_Connection] = []

    def connect(self, path: str, **options: Any) -> aiosqlite.Connection:
        """A connection to be awaited; `options` are those of `sqlite3.connect`."""
        connection = _Connection(lambda: sqlite3.connect(path, factory=_Database, **options), ROWS_AT_ONCE)
        connection._thread.daemon = True  # a connection that nobody closed does not keep the process
        self._ending_or_open = [other for other in self._ending_or_open if other._running or other.is_ending]
        self._ending_or_open.append(connection)
        return connection

    async def wait_ended(self, timeout_seconds: float) -> None:
        """Wait for the threads of closed connections: one that is in the middle of a statement ends after it, and
        must find the event loop as it was."""
        deadline = time.monotonic() + timeout_seconds

        def join() -> None:
            for connection in self._ending_or_open:
                if connection.is_ending:
                    connection.join(max(0.0, deadline - time.monotonic()))

        await asyncio.to_thread(join)
