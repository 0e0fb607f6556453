"""Bounds of what is accepted: rates, quotas, the backlog of unpublished records, and open waits and streams."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from taskfleet_api.access import get_caller
from taskfleet_api.records import Records
from taskfleet_api.tasks.model import ANONYMOUS
from taskfleet_api.tasks.quotas import Quotas
from taskfleet_api.tasks.rates import RateLimits
from taskfleet_api.telemetry import gauge
from taskfleet_core.errors import OverloadedError, TaskfleetError, UnavailableError

__all__ = ["Admission", "BacklogGate", "OpenStreams"]

POLL_SECONDS = 1.0
BACKLOG_RETRY_SECONDS = 10
STREAM_RETRY_SECONDS = 5
log = structlog.get_logger()


class BacklogGate:
    """Refuses submissions while too many records wait for the broker.

    The count is polled; between two polls everything accepted counts as waiting, so that a burst cannot slip through.
    """

    def __init__(self, records: Records, max_backlog: int) -> None:
        self._records = records
        self._max = max_backlog
        self._counted: int | None = None
        self._accepted = 0
        self._lock = asyncio.Lock()

    @property
    def backlog(self) -> int | None:
        """Records that waited at the last count; None while the database has not said."""
        return self._counted

    async def admit(self, count: int) -> None:
        """Return if `count` more tasks are within the bound. Raises OverloadedError."""
        if (self._counted or 0) + self._accepted + count <= self._max:
            self._accepted += count
            return
        async with self._lock:
            # Before anybody is refused, the estimate makes way for a count.
            if (self._counted or 0) + self._accepted + count > self._max and self._accepted:
                await self.refresh()
        if (self._counted or 0) + self._accepted + count > self._max:
            raise OverloadedError(
                f"{self._counted or 0} accepted tasks wait for the broker; the bound is {self._max}.",
                BACKLOG_RETRY_SECONDS,
            )
        self._accepted += count

    async def refresh(self) -> None:
        """Count once; what cannot be counted leaves the last count in force."""
        seen = self._accepted
        try:
            async with asyncio.timeout(10 * POLL_SECONDS):
                self._counted = await self._records.backlog(self._max + 1)
        except (UnavailableError, TimeoutError):
            return
        self._accepted -= seen

    async def run(self) -> None:
        """Count every second for ever; an idle API asks nothing."""
        while True:
            if self._counted is None or self._counted or self._accepted:
                await self.refresh()
            await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class Admission:
    """Every bound that a submission must keep to."""

    rates: RateLimits
    quotas: Quotas
    gate: BacklogGate

    async def admit(self, principal: str, counts: Mapping[str, int]) -> None:
        """Within every bound, or OverloadedError: then the request costs nothing of its caller's rate. `counts` are the
        tasks of one request by queue."""
        await self.rates.admit(principal, counts)
        try:
            await self.quotas.admit(principal, counts)
        except TaskfleetError:
            self.rates.refund(principal, counts)
            raise
        try:
            await self.gate.admit(sum(counts.values()))
        except TaskfleetError:
            self.refund(principal, counts)
            raise

    def refund(self, principal: str, counts: Mapping[str, int]) -> None:
        """Give back what `admit` counted for a request that was not recorded."""
        self.rates.refund(principal, counts)
        self.quotas.refund(principal, counts)


class OpenStreams:
    """Counts open waits and event streams, bounds them, and ends them all when the process stops.

    A caller may hold half of them: nobody shuts the others out by holding all. Without authentication all are one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[asyncio.Timeout] = set()
        self._of_caller: Counter[str] = Counter()
        self._closing = False

    @property
    def closing(self) -> bool:
        """Whether the process is about to stop."""
        return self._closing

    @property
    def count(self) -> int:
        """Waits and streams that are open."""
        return len(self._open)

    @asynccontextmanager
    async def slot(self, kind: str, seconds: float | None = None) -> AsyncIterator[None]:
        """Hold one of the slots; the block simply ends when `seconds` are over or the process stops.

        Raises OverloadedError when all slots are taken.
        """
        self.check_room()
        principal = get_caller().principal
        open_now = gauge("taskfleet_api_streams").labels(kind)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if self._closing else seconds) as scope:
                self._open.add(scope)
                self._of_caller[principal] += 1
                open_now.inc()
                try:
                    yield
                finally:
                    open_now.dec()
                    self._open.discard(scope)
                    self._of_caller[principal] -= 1
                    if not self._of_caller[principal]:
                        del self._of_caller[principal]

    def check_room(self) -> None:
        """Raises OverloadedError when all slots are taken, or the caller has its share of them."""
        if len(self._open) >= self._limit:
            raise OverloadedError(f"{self._limit} waits and streams are open already.", STREAM_RETRY_SECONDS)
        principal, share = get_caller().principal, (self._limit + 1) // 2
        if principal != ANONYMOUS and self._of_caller[principal] >= share:
            raise OverloadedError(f"You have {share} waits and streams open already.", STREAM_RETRY_SECONDS)

    def close(self) -> None:
        """End every wait and stream as if its time were over."""
        self._closing = True
        now = asyncio.get_running_loop().time()
        for scope in self._open:
            scope.reschedule(now)
