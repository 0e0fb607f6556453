"""Rate limits: how many tasks a second one caller, and all callers of one queue, may submit at this replica."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from taskfleet_api.problems import RateLimitedError

__all__ = ["RateLimits"]

BURST_SECONDS = 10.0
MAX_BUCKETS = 10_000


class Buckets:
    """A token bucket for each name. One that holds a token takes a request of any size and goes into debt."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._rate = per_second
        self._full = max(1.0, per_second * BURST_SECONDS)
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level at a moment

    def find_wait(self, name: str) -> float:
        """Seconds until the name may submit; 0 for now."""
        return max(0.0, (1 - self._get_level(name)) / self._rate)

    def take(self, name: str, count: int) -> None:
        """Note what was submitted; a negative count gives back."""
        self._levels[name] = (min(self._full, self._get_level(name) - count), self._clock())
        self._levels.move_to_end(name)
        while len(self._levels) > MAX_BUCKETS:
            self._levels.popitem(last=False)

    def _get_level(self, name: str) -> float:
        level, at = self._levels.get(name, (self._full, 0.0))
        return min(self._full, level + (self._clock() - at) * self._rate)


class RateLimits:
    """Both limits together; None is no limit."""

    def __init__(
        self,
        per_caller: float | None,
        per_queue: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._callers = Buckets(per_caller, clock) if per_caller else None
        self._queues = Buckets(per_queue, clock) if per_queue else None

    def admit(self, principal: str, queues: Mapping[str, int]) -> None:
        """Count the tasks of one request by queue. Raises RateLimitedError, and then counts none."""
        if self._callers is not None:
            _check(self._callers, principal, f"Caller {principal!r}")
        if self._queues is not None:
            for queue in queues:
                _check(self._queues, queue, f"Queue {queue!r}")
            for queue, count in queues.items():
                self._queues.take(queue, count)
        if self._callers is not None:
            self._callers.take(principal, sum(queues.values()))

    def refund(self, principal: str, queues: Mapping[str, int]) -> None:
        """Give back what `admit` counted for a request that was then refused for another reason."""
        if self._queues is not None:
            for queue, count in queues.items():
                self._queues.take(queue, -count)
        if self._callers is not None:
            self._callers.take(principal, -sum(queues.values()))


def _check(buckets: Buckets, name: str, said: str) -> None:
    wait = buckets.find_wait(name)
    if wait > 0:
        seconds = math.ceil(wait)
        raise RateLimitedError(f"{said} is above its rate of submissions; try again in {seconds} s.", seconds)
