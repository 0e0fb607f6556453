"""Shared token buckets in memory: the contract of the store's own, without a store."""

from collections.abc import Callable, Sequence

from taskfleet_api.live.rates import RateUse
from taskfleet_core.errors import StoreUnavailableError

__all__ = ["MemoryRates"]


class MemoryRates:
    """What several replicas share in a unit test; `away` makes it a store that does not answer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}
        self.away = False
        self.calls = 0

    async def settle(self, uses: Sequence[RateUse]) -> list[float]:
        self.calls += 1
        if self.away:
            raise StoreUnavailableError("away")
        return [self._settle_one(use) for use in uses]

    def _settle_one(self, use: RateUse) -> float:
        now = self._clock()
        level, at = self._levels.get(use.name, (use.full, now))
        level = min(use.full, min(use.full, level + max(0.0, now - at) * use.rate) - use.used)
        self._levels[use.name] = (level, now)
        return level
