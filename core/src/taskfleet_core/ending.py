"""Ending tasks for certain: no process may hang on one that missed its cancellation.

Libraries lose a cancellation that comes in the moment in which what they wait for is done or runs out of time, as
everything does at once in a process that was halted: redis-py, for one, sends inside `asyncio.wait_for`, which does so
on Python 3.11. So it is repeated.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

__all__ = ["end_task", "end_tasks"]

AGAIN_SECONDS = 0.2


async def end_tasks(tasks: Iterable["asyncio.Task[Any] | None"]) -> None:
    """Cancel until all are over, whatever they end with; None is over already."""
    started = [task for task in tasks if task is not None]
    left = {task for task in started if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
    await asyncio.gather(*started, return_exceptions=True)


async def end_task(task: "asyncio.Task[Any]") -> None:
    """Cancel a task until it is over; raises what it failed with."""
    await end_tasks([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
