"""Polling with a deadline, in place of sleeping: a probe is repeated until it returns something true."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

__all__ = ["eventually", "eventually_sync"]

T = TypeVar("T")


@overload
async def eventually(
    probe: Callable[[], Awaitable[T | None]], timeout_seconds: float = 10, interval_seconds: float = 0.02
) -> T: ...
@overload
async def eventually(
    probe: Callable[[], T | None], timeout_seconds: float = 10, interval_seconds: float = 0.02
) -> T: ...
async def eventually(probe: Callable[[], Any], timeout_seconds: float = 10, interval_seconds: float = 0.02) -> Any:
    """Repeat `probe` (sync or async) until its result is true and return that; AssertionError once time is over.

    An AssertionError inside the probe counts as "not yet", and becomes the cause of the final error.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        cause: AssertionError | None = None
        value: Any = None
        try:
            outcome = probe()
            value = await outcome if inspect.isawaitable(outcome) else outcome
        except AssertionError as error:
            cause = error
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds} s; last value: {value!r}") from cause
        await asyncio.sleep(interval_seconds)


def eventually_sync(probe: Callable[[], T | None], timeout_seconds: float = 10, interval_seconds: float = 0.02) -> T:
    """The same for code without an event loop."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        cause: AssertionError | None = None
        value: T | None = None
        try:
            value = probe()
        except AssertionError as error:
            cause = error
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds} s; last value: {value!r}") from cause
        time.sleep(interval_seconds)
