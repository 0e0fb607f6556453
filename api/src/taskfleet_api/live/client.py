"""Redis connections with time limits, and what is read from them."""

import json
from typing import Any, cast

import redis.asyncio
from redis import DriverInfo
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from taskfleet_core.events import TaskEvent
from taskfleet_core.wire import SCHEMA_VERSION

__all__ = ["open_client", "open_connection", "parse_event", "parse_json"]

MAX_CONNECTIONS = 32
# What a connection says of itself. Left to redis-py, each one would read the package's metadata from disk again.
DRIVER = DriverInfo()


def open_client(
    url: str, *, timeout_seconds: float, connections: int = MAX_CONNECTIONS, retries: int = 1
) -> redis.asyncio.Redis:
    """A client that never connects eagerly. One retry replaces pooled connections that a restart left dead."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout_seconds,
        retry=Retry(NoBackoff(), retries, supported_errors=(RedisConnectionError,)),
        **_options(timeout_seconds),
    )
    return redis.asyncio.Redis.from_pool(pool)


def open_connection(url: str, *, timeout_seconds: float) -> AbstractConnection:
    """One connection outside any pool, for pub/sub; not connected yet."""
    pool = redis.asyncio.ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), **_options(timeout_seconds))
    return cast(AbstractConnection, pool.make_connection())  # type: ignore[no-untyped-call]


def _options(timeout_seconds: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "socket_keepalive": True,
        "decode_responses": True,
        # What is no text is not ours: one such value among others must not keep the others from being read.
        "encoding_errors": "replace",
        "protocol": 2,
        "driver_info": DRIVER,
    }


def parse_json(text: str | bytes | None) -> Any:
    """The value of a JSON text; None for what is absent or broken (another process wrote it)."""
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def parse_event(text: str | bytes | None) -> TaskEvent | None:
    """A TaskEvent from its JSON text; None when it is absent, broken or of a newer schema."""
    value = parse_json(text)
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int) or value["schema"] > SCHEMA_VERSION:
        return None
    if not all(key in value for key in ("kind", "id", "queue", "task", "state", "attempt", "position", "at")):
        return None
    return cast(TaskEvent, value)
