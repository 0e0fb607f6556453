"""Ending tasks for certain: an operator that has lost its Lease must not hang on one that missed its cancellation."""

import asyncio
from collections.abc import Iterable

__all__ = ["end_tasks"]

AGAIN_SECONDS = 1.0


async def end_tasks(tasks: Iterable["asyncio.Task[None] | None"]) -> None:
    """Cancel until all are over, whatever they end with; None is over already.

    Libraries lose a cancellation that comes in the moment in which what they wait for is done or runs out of time,
    as everything does at once in a process that was halted. So it is repeated.
    """
    started = [task for task in tasks if task is not None]
    left = {task for task in started if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
    await asyncio.gather(*started, return_exceptions=True)
