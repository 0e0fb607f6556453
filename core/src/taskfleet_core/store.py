"""Calls of Redis/Valkey as the store: bounded, and the one place where redis-py's errors become ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from taskfleet_core.errors import StoreUnavailableError

__all__ = ["guarded"]

MAX_ERROR_CHARACTERS = 300


@asynccontextmanager
async def guarded(what: str, timeout_seconds: float) -> AsyncIterator[None]:
    """Run the body under a time limit; raises StoreUnavailableError saying what was being done."""
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        text = f"while {what}: {type(error).__name__}: {error}"
        raise StoreUnavailableError(text[:MAX_ERROR_CHARACTERS]) from error
