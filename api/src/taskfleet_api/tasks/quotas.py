"""Quotas: how many unfinished tasks one caller, and all callers of one queue, may have.

The database is asked every few seconds, and before anybody is refused; in between, what this replica accepted is
added. Several replicas can together go over by what they accept between two counts.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping

from taskfleet_api.problems import QuotaExceededError
from taskfleet_api.records import Records
from taskfleet_core.errors import UnavailableError

__all__ = ["Quotas"]

FRESH_SECONDS = 2.0
RECOUNT_SECONDS = 0.5  # a refusal rests on a count that is not older
RETRY_SECONDS = 5
COUNT_SECONDS = 10.0


class Quotas:
    """Both quotas together; None is no bound, and then nothing is counted."""

    def __init__(
        self,
        records: Records,
        per_caller: int | None,
        per_queue: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = records
        self._per_caller = per_caller
        self._per_queue = per_queue
        self._clock = clock
        self._callers: Counter[str] = Counter()
        self._queues: Counter[str] = Counter()
        self._new_callers: Counter[str] = Counter()
        self._new_queues: Counter[str] = Counter()
        self._counted_at = float("-inf")
        self._lock = asyncio.Lock()

    async def admit(self, principal: str, queues: Mapping[str, int]) -> None:
        """Count the tasks of one request by queue. Raises QuotaExceededError, and then counts none."""
        if self._per_caller is None and self._per_queue is None:
            return
        await self._refresh(FRESH_SECONDS)
        if self._find_excess(principal, queues):
            await self._refresh(RECOUNT_SECONDS)
        if excess := self._find_excess(principal, queues):
            raise QuotaExceededError(excess, RETRY_SECONDS)
        self._new_queues.update(queues)
        self._new_callers[principal] += sum(queues.values())

    def refund(self, principal: str, queues: Mapping[str, int]) -> None:
        """Forget what `admit` counted for a request that was then refused for another reason."""
        if self._per_caller is None and self._per_queue is None:
            return
        self._new_queues.subtract(queues)
        self._new_callers[principal] -= sum(queues.values())

    def _find_excess(self, principal: str, queues: Mapping[str, int]) -> str | None:
        """The bound that the request would break, in a sentence."""
        if self._per_caller is not None:
            open_now = self._callers[principal] + self._new_callers[principal]
            if open_now + sum(queues.values()) > self._per_caller:
                return f"Caller {principal!r} has {open_now} unfinished tasks; the quota is {self._per_caller}."
        if self._per_queue is not None:
            for queue, count in queues.items():
                open_now = self._queues[queue] + self._new_queues[queue]
                if open_now + count > self._per_queue:
                    return f"Queue {queue!r} has {open_now} unfinished tasks; the quota is {self._per_queue}."
        return None

    async def _refresh(self, oldest_seconds: float) -> None:
        """Count unless that was done lately; what cannot be counted leaves the last count in force."""
        if self._clock() - self._counted_at <= oldest_seconds:
            return
        async with self._lock:
            if self._clock() - self._counted_at <= oldest_seconds:
                return
            new_callers, new_queues = Counter(self._new_callers), Counter(self._new_queues)
            try:
                async with asyncio.timeout(COUNT_SECONDS):
                    counts = await self._records.count_unfinished(by_caller=self._per_caller is not None)
            except (UnavailableError, TimeoutError):
                self._counted_at = self._clock()  # the submission itself will say that the database is away
                return
            self._set_counts(counts)
            self._new_callers = _without(self._new_callers, new_callers)
            self._new_queues = _without(self._new_queues, new_queues)
            self._counted_at = self._clock()

    def _set_counts(self, counts: Mapping[tuple[str, str], int]) -> None:
        self._callers, self._queues = Counter(), Counter()
        for (queue, principal), count in counts.items():
            self._queues[queue] += count
            self._callers[principal] += count


def _without(counts: Counter[str], seen: Counter[str]) -> Counter[str]:
    """What was added since; a request between the two that is not yet committed is counted at the next look."""
    counts.subtract(seen)
    return Counter({name: count for name, count in counts.items() if count})
