"""Which API replicas live: each counts its signs of life in the store, and the others see whether the count moves.

A replica is dead once its count has stood still for three looks in a row. No clock is read, neither another machine's
nor the store's, and the count itself is in the process: an emptied store resets none. A replica that was only paused,
or cut off, is taken for dead too: what is done then must bear that.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

import structlog

from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.live import LiveStore
from taskfleet_core.errors import StoreUnavailableError

__all__ = ["LANE_SEPARATOR", "Replicas", "count_still", "get_process"]

log = structlog.get_logger()

DEAD_LOOKS = 3  # after two, a sign that was merely late would do
LANE_SEPARATOR = "/"

Looks = Mapping[str, tuple[int | None, int]]  # process -> its count, and for how many looks it has been the same


def get_process(consumer: str) -> str | None:
    """The process of a recorder's consumer; None for those of releases that gave no signs of life."""
    process, separator, _ = consumer.partition(LANE_SEPARATOR)
    return process if separator else None


def count_still(before: Looks, counts: Mapping[str, int], names: Iterable[str]) -> dict[str, tuple[int | None, int]]:
    """One look more at each of `names`: for how many looks its count, or its absence, has been the same."""
    looks = {}
    for name in names:
        count, still = counts.get(name), 0
        if name in before and before[name][0] == count:
            still = before[name][1] + 1
        looks[name] = (count, still)
    return looks


class Replicas:
    """The signs of life of this process, and what it sees of the others'."""

    def __init__(self, live: LiveStore, options: BackgroundOptions, process: str) -> None:
        self._live = live
        self._options = options
        self.process = process
        self._looks: dict[str, tuple[int | None, int]] = {}
        self._absent: set[str] = set()  # asked about, and without any sign of life
        self._living = 1
        self._beats = 0

    @property
    def living(self) -> int:
        """How many replicas live, this one included; the last that was known while the store cannot be read."""
        return self._living

    def find_dead(self, named: AbstractSet[str]) -> set[str]:
        """All processes that are dead as far as is known; those of `named` without any sign are watched from now on."""
        self._absent |= named - self._looks.keys() - {self.process}
        return {process for process in self._looks if self._is_dead(process)}

    def _is_dead(self, process: str) -> bool:
        return process != self.process and self._looks[process][1] >= DEAD_LOOKS

    async def step(self) -> float:
        """Give a sign and look once. A look that fails forgets all suspicion: who cannot be seen is not dead."""
        self._beats += 1
        try:
            counts = await self._live.beat(self.process, self._beats)
        except StoreUnavailableError:
            self._looks.clear()
            raise
        self._looks = count_still(self._looks, counts, counts.keys() | self._absent)
        self._absent -= counts.keys()
        living = sum(not self._is_dead(name) for name in counts)
        if living != self._living:
            log.info("replicas_changed", living=living)
        self._living = living
        return self._options.beat_interval_seconds

    async def forget(self, process: str) -> None:
        """Nothing is left of a dead process."""
        self._absent.discard(process)
        self._looks.pop(process, None)
        await self._live.forget_process(process)

    async def leave(self) -> None:
        """This process ends: the others need not wonder. Without the store they find out by themselves."""
        try:
            await self._live.forget_process(self.process)
        except StoreUnavailableError as error:
            log.info("left_without_a_word", error=str(error))
