"""The processes that serve (Valkey, API, Flower): started, probed, and started again with a growing pause."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from taskfleet.local.journal import Journal
from taskfleet.local.processes import Child

__all__ = ["Service"]

PROBE_SECONDS = 0.05
WATCH_SECONDS = 0.2
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
HEALTHY_SECONDS = 30.0  # a run of this length forgives earlier failures


class Service:
    """One supervised process. `problem` is None while it works."""

    def __init__(
        self,
        name: str,
        start: Callable[[], Child],
        probe: Callable[[], Awaitable[bool]],
        journal: Journal,
        *,
        stop_seconds: float,
    ) -> None:
        self.name = name
        self.problem: str | None = "starting"
        self.restarts = 0
        self.child: Child | None = None
        self.ready = asyncio.Event()
        self._start, self._probe, self._journal = start, probe, journal
        self._stop_seconds = stop_seconds

    async def run(self) -> None:
        """Keep it running until cancelled; then it runs on until stop()."""
        failures = 0
        while True:
            lived_from = time.monotonic()
            try:
                self.child = self._start()
                await self._wait_ready(self.child)
                reason = await self._wait_end(self.child)
            except OSError as error:
                reason = f"cannot be started: {error}"
            self.ready.clear()
            failures = 0 if time.monotonic() - lived_from > HEALTHY_SECONDS else failures + 1
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** max(0, failures - 1))
            self.problem = f"{reason}; next start in {pause:.1f} s"
            self.restarts += 1
            self._journal.warning("service_ended", service=self.name, reason=reason, pause_seconds=pause)
            await asyncio.sleep(pause)

    async def _wait_ready(self, child: Child) -> None:
        while child.exit_code is None:
            if await self._probe():
                self.problem = None
                self.ready.set()
                seconds = round(time.monotonic() - child.started_at, 2)
                self._journal.info("service_ready", service=self.name, seconds=seconds)
                return
            await asyncio.sleep(PROBE_SECONDS)

    async def _wait_end(self, child: Child) -> str:
        while child.exit_code is None:  # noqa: ASYNC110 - polling needs no child watcher
            await asyncio.sleep(WATCH_SECONDS)
        child.kill()  # what it left in its group
        return child.read_failure()

    async def stop(self, *, hurry: bool = False) -> None:
        """Stop the process; call after run() was cancelled."""
        if self.child is not None:
            await self.child.stop(0.5 if hurry else self._stop_seconds)
