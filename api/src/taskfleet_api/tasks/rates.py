"""Rate limits: how many tasks a second one caller, and all callers of one queue, may submit at all replicas together.

A submission takes from this replica's share of the bucket, in memory; what was taken is told to the store in the
background. Only a submission that finds its share empty waits for the store, before it is refused.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from taskfleet_api.live.rates import RateUse
from taskfleet_api.problems import RateLimitedError
from taskfleet_api.tasks.buckets import Buckets
from taskfleet_core.errors import StoreUnavailableError

__all__ = ["RateLimits"]

SETTLE_SECONDS = 0.1  # how old what a replica knows of the others may be
RETRY_SECONDS = 1.0  # without an answer of the store nobody asks it again for so long
log = structlog.get_logger()

Settle = Callable[[Sequence[RateUse]], Awaitable[list[float]]]
_Charge = tuple[Buckets, str, int, str]  # which buckets, name, tasks, and who is refused


class RateLimits:
    """Both limits together; None is no limit, and then nothing is counted or told."""

    def __init__(
        self,
        per_caller: float | None,
        per_queue: float | None,
        settle: Settle,
        replicas: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._callers = Buckets("caller", per_caller, replicas, clock) if per_caller else None
        self._queues = Buckets("queue", per_queue, replicas, clock) if per_queue else None
        self._all = [buckets for buckets in (self._callers, self._queues) if buckets is not None]
        self._settle = settle
        self._clock = clock
        self._lock = asyncio.Lock()
        self._spent = asyncio.Event()
        self._settlements = 0  # begun
        self._alone_until = float("-inf")  # the store did not answer

    async def admit(self, principal: str, queues: Mapping[str, int]) -> None:
        """Count the tasks of one request by queue. Raises RateLimitedError, and then counts none."""
        if not self._all:
            return
        charges = self._build_charges(principal, queues)
        poor = [charge for charge in charges if not charge[0].has_share(charge[1])]
        if poor:
            _refuse_known(poor)
            await self._ask(poor)
            _refuse_empty(poor)
        self._take(charges, 1)

    def refund(self, principal: str, queues: Mapping[str, int]) -> None:
        """Give back what `admit` counted for a request that was then refused for another reason."""
        if self._all:
            self._take(self._build_charges(principal, queues), -1)

    async def run(self) -> None:
        """Tell the store for ever what was spent; nothing while nobody spends."""
        while True:
            await self._spent.wait()
            self._spent.clear()
            if self._clock() < self._alone_until:
                await asyncio.sleep(RETRY_SECONDS)
            await self.tell()
            await asyncio.sleep(SETTLE_SECONDS)

    async def tell(self) -> None:
        """Tell the store what was spent here, and hear what is left."""
        await self._settle_after(self._settlements)

    def _build_charges(self, principal: str, queues: Mapping[str, int]) -> list[_Charge]:
        charges: list[_Charge] = []
        if self._callers is not None:
            charges.append((self._callers, principal, sum(queues.values()), f"Caller {principal!r}"))
        if self._queues is not None:
            charges += [(self._queues, queue, count, f"Queue {queue!r}") for queue, count in queues.items()]
        return charges

    def _take(self, charges: Sequence[_Charge], sign: int) -> None:
        for buckets, name, count, _ in charges:
            buckets.take(name, sign * count)
        self._spent.set()

    async def _ask(self, charges: Sequence[_Charge]) -> None:
        """Hear of these buckets, unless the store is away."""
        if self._clock() < self._alone_until:
            return
        for buckets, name, _, _ in charges:
            buckets.want(name)
        await self.tell()

    async def _settle_after(self, settlements: int) -> None:
        """Return once a settlement is over that began after so many; one at a time."""
        async with self._lock:
            if self._settlements > settlements:
                return
            self._settlements += 1
            told = [(buckets, name, use) for buckets in self._all for name, use in buckets.begin().items()]
            if told:
                await self._tell(told)

    async def _tell(self, told: Sequence[tuple[Buckets, str, RateUse]]) -> None:
        try:
            levels = await self._settle([use for _, _, use in told])
        except BaseException as error:
            for buckets, name, _ in told:
                buckets.give_back(name)
            self._spent.set()
            if not isinstance(error, StoreUnavailableError):
                raise
            self._alone_until = self._clock() + RETRY_SECONDS
            if self._set_alone(True):
                log.warning("rates_by_share", error=str(error))
            return
        if self._set_alone(False):
            log.info("rates_together")
        for (buckets, name, _), level in zip(told, levels, strict=True):
            buckets.hear(name, level)

    def _set_alone(self, alone: bool) -> bool:
        """Whether that is news."""
        was = self._all[0].alone
        for buckets in self._all:
            buckets.alone = alone
        return was != alone


def _refuse_known(charges: Sequence[_Charge]) -> None:
    """Whoever was found empty a moment ago is not asked for again."""
    for buckets, name, _, said in charges:
        if buckets.is_refused(name):
            raise _build_refusal(said, buckets.find_wait(name))


def _refuse_empty(charges: Sequence[_Charge]) -> None:
    for buckets, name, _, said in charges:
        if not buckets.has_token(name):
            buckets.refuse(name)
            raise _build_refusal(said, buckets.find_wait(name))


def _build_refusal(said: str, wait_seconds: float) -> RateLimitedError:
    seconds = max(1, math.ceil(wait_seconds))
    return RateLimitedError(f"{said} is above its rate of submissions; try again in {seconds} s.", seconds)
