"""Waits that end."""

import asyncio
import contextlib

__all__ = ["wait_for_event"]


async def wait_for_event(event: asyncio.Event, timeout_seconds: float | None) -> bool:
    """Wait until the event is set, at most that long (None: for ever); whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    return event.is_set()
