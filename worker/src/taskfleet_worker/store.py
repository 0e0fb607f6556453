"""The connection to Redis/Valkey for task changes: one round trip each, repeated until the store has it.

Used by tasks in pool processes and threads; nothing here may run in an event loop without a bound on `attempts`.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .scripts import Script

__all__ = ["RETRYABLE", "Store", "StoreFullError", "limit_waits", "persist"]

logger = logging.getLogger("taskfleet.worker")

FIRST_SLEEP_SECONDS = 0.01
LONGEST_SLEEP_SECONDS = 1.0
LOG_EVERY_SECONDS = 10.0
SOCKET_SECONDS = 5.0
CONNECT_SECONDS = 2.0


class StoreFullError(Exception):
    """The events stream is over its bound: the recorder is behind."""


# Whatever the server says, a result in hand is worth repeating: OOM, READONLY, MISCONF, LOADING and lost connections
# pass; anything else is a defect that must be seen in the log and must not lose a task.
RETRYABLE: tuple[type[BaseException], ...] = (redis.RedisError, OSError, StoreFullError)


def limit_waits(connection_parameters: dict[str, Any]) -> None:
    """Give every command a time limit and at most one immediate repetition; longer waits are ours to pace."""
    for name, seconds in (("socket_timeout", SOCKET_SECONDS), ("socket_connect_timeout", CONNECT_SECONDS)):
        if name in connection_parameters:
            connection_parameters[name] = min(connection_parameters[name] or seconds, seconds)
    connection_parameters["retry"] = Retry(NoBackoff(), 1)
    connection_parameters.pop("retry_on_timeout", None)


class Store:
    """Runs scripts over a connection pool, without the client's per-command overhead."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool

    def run(self, script: Script, *parameters: Any) -> Any:
        """One script, by digest; loads it when the server does not know it. Raises redis.RedisError or OSError."""
        connection = _checkout(self._pool)
        try:
            try:
                connection.send_command("EVALSHA", script.sha, *parameters)
                return connection.read_response()
            except redis.exceptions.NoScriptError:
                connection.send_command("EVAL", script.source, *parameters)
                return connection.read_response()
        except redis.ResponseError:
            raise
        except BaseException:
            # An answer may still be on its way: this connection must not be used again.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)

    def command(self, *words: Any) -> Any:
        """One plain command. Raises redis.RedisError or OSError."""
        connection = _checkout(self._pool)
        try:
            connection.send_command(*words)
            return connection.read_response()
        except redis.ResponseError:
            raise
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)


def _checkout(pool: redis.ConnectionPool) -> Any:
    try:
        return pool.get_connection()
    except TypeError:  # redis-py before 5.3 wants the command's name
        return pool.get_connection("_")


def persist(work: Callable[[], Any], task_id: str, *, gave_up: Callable[[], bool] = lambda: False) -> Any:
    """Repeat `work` until the store took it: 10 ms at first, then each second, logged every 10 s."""
    sleep_seconds, logged = FIRST_SLEEP_SECONDS, 0.0
    while True:
        try:
            return work()
        except RETRYABLE as error:
            if gave_up():
                raise
            now = time.monotonic()
            if now - logged > LOG_EVERY_SECONDS:
                logged = now
                logger.warning("state of task %s is not recorded yet, repeating: %s", task_id, error)
            time.sleep(sleep_seconds)
            sleep_seconds = min(sleep_seconds * 2, LONGEST_SLEEP_SECONDS)
