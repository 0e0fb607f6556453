"""Answers of a dependency that are trusted for a while, and longer while it does not answer."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from taskfleet_core.errors import UnavailableError

__all__ = ["Remembered"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Bounded; one question for all who ask at the same time. `worth` says which answers outlive an outage."""

    def __init__(
        self,
        *,
        trust_seconds: float,
        stale_seconds: float,
        worth: Callable[[V], bool],
        max_entries: int = 10_000,
    ) -> None:
        self.trust_seconds = trust_seconds
        self._stale_seconds = stale_seconds
        self._worth = worth
        self._max_entries = max_entries
        self._known: OrderedDict[K, tuple[V, float]] = OrderedDict()  # with the moment of the answer, monotonic
        self._asking: dict[K, asyncio.Future[V]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def forget(self) -> None:
        """Ask again for everything."""
        self._known.clear()

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer. Raises what `ask` raises; of UnavailableErrors those for which nothing of worth is known."""
        known, now = self._known.get(key), time.monotonic()
        if known is not None and now - known[1] < self.trust_seconds:
            return known[0]
        try:
            answer = await self._ask(key, ask)
        except UnavailableError:
            if known is None or not self._worth(known[0]) or now - known[1] > self._stale_seconds:
                raise
            return known[0]
        self._known[key] = (answer, now)
        self._known.move_to_end(key)
        while len(self._known) > self._max_entries:
            self._known.popitem(last=False)
        return answer

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """A client that goes away cancels nobody else's question."""
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(ask())
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)
