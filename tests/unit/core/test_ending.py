"""Tasks end, also those that miss a cancellation."""

import asyncio
import contextlib

import pytest

from taskfleet_core import ending
from taskfleet_core.ending import end_tasks


async def test_a_task_that_misses_its_first_cancellation_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "AGAIN_SECONDS", 0.01)
    missed = 0

    async def stubborn() -> None:
        nonlocal missed
        while missed < 2:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                missed += 1
        await asyncio.sleep(3600)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end_tasks([task])
    assert task.cancelled()
    assert missed == 2


async def test_how_tasks_end_does_not_matter() -> None:
    async def fail() -> None:
        raise ValueError("on its own")

    async def fail_late() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        raise ValueError("while ending")

    tasks = [asyncio.create_task(fail()), asyncio.create_task(fail_late()), None]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end_tasks(tasks)
    assert all(task is None or task.done() for task in tasks)
