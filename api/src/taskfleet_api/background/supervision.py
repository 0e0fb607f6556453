"""Supervised loops: a crash is logged, backed off and restarted; each loop's health can be read at any time."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from taskfleet_core.backoff import decide_backoff_seconds
from taskfleet_core.ending import end_task
from taskfleet_core.errors import UnavailableError

__all__ = ["LoopHealth", "Supervisor"]

log = structlog.get_logger()

Step = Callable[[], Awaitable[float]]

STEP_LIMIT_SECONDS = 120.0
STALE_SECONDS = 15.0
ERROR_TEXT_LIMIT = 200


@dataclass(frozen=True, slots=True)
class LoopHealth:
    """How one background loop is doing; times are seconds ago."""

    name: str
    healthy: bool
    consecutive_failures: int
    last_error: str | None  # type and short text, never a URL
    seconds_since_success: float | None


class _Loop:
    """One step, repeated for ever. The step says how long to wait until the next."""

    def __init__(self, name: str, step: Step, stale_seconds: float, limit_seconds: float | None) -> None:
        self.name = name
        self._step = step
        self._stale_seconds = stale_seconds
        self._limit_seconds = limit_seconds
        self._failures = 0
        self._last_error: str | None = None
        self._started_at = time.monotonic()
        self._succeeded_at: float | None = None

    async def run(self, backoff_first_seconds: float, backoff_max_seconds: float) -> None:
        while True:
            try:
                async with asyncio.timeout(self._limit_seconds):
                    pause = await self._step()
            except Exception as error:
                self._note_failure(error)
                pause = decide_backoff_seconds(
                    self._failures, backoff_first_seconds, backoff_max_seconds, random.random()
                )
            else:
                self._note_success()
            await asyncio.sleep(pause)

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        self._last_error = f"{type(error).__name__}: {error}"[:ERROR_TEXT_LIMIT]
        expected = isinstance(error, UnavailableError | TimeoutError)
        log.warning(
            "loop_failed",
            loop=self.name,
            failures=self._failures,
            error=self._last_error,
            # The cause of what nobody expected is worth its lines, once per series.
            exc_info=not expected and self._failures == 1,
        )

    def _note_success(self) -> None:
        if self._failures:
            log.info("loop_recovered", loop=self.name, failures=self._failures)
        self._failures = 0
        self._last_error = None
        self._succeeded_at = time.monotonic()

    def health(self) -> LoopHealth:
        now = time.monotonic()
        silence = now - (self._succeeded_at or self._started_at)
        endless = self._limit_seconds is None
        return LoopHealth(
            name=self.name,
            healthy=not self._failures if endless else silence < self._stale_seconds,
            consecutive_failures=self._failures,
            last_error=self._last_error,
            seconds_since_success=None if self._succeeded_at is None else now - self._succeeded_at,
        )


class Supervisor:
    """Runs loops until they are stopped, each in its own task."""

    def __init__(self, *, backoff_first_seconds: float, backoff_max_seconds: float) -> None:
        self._backoff = (backoff_first_seconds, backoff_max_seconds)
        self._loops: dict[str, _Loop] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(
        self,
        name: str,
        step: Step,
        *,
        interval_seconds: float = 0.0,
        endless: bool = False,
        backoff_max_seconds: float | None = None,
    ) -> None:
        """Start a loop. A step that takes longer than two minutes counts as failed, unless it is `endless`.

        `backoff_max_seconds`: the longest pause after failures, where that of all loops is too long.
        """
        limit = None if endless else STEP_LIMIT_SECONDS
        loop = _Loop(name, step, STALE_SECONDS + 2 * interval_seconds, limit)
        self._loops[name] = loop
        first, longest = self._backoff
        if backoff_max_seconds is not None:
            longest = min(longest, backoff_max_seconds)
        self._tasks[name] = asyncio.create_task(loop.run(first, longest), name=f"background-{name}")

    async def stop(self, *names: str) -> None:
        """Stop these loops, or all, and wait until they are gone."""
        tasks = [self._tasks.pop(name) for name in names or tuple(self._tasks) if name in self._tasks]
        await asyncio.gather(*(end_task(task) for task in tasks))

    def health(self) -> dict[str, LoopHealth]:
        """The health of every loop ever started."""
        return {name: loop.health() for name, loop in self._loops.items()}
