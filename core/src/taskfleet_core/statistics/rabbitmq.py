"""Queue figures of RabbitMQ, from the best source that answers.

1. `/metrics/detailed` of the Prometheus plugin: fresh, all queues in one request, also publish and ack counters on 4.x.
2. The management API: all queues in one request, several seconds old.
3. Passive declares: fresh, ready messages and consumers only, one call per queue.

A source that does not answer is asked again after a while. No source, no figure: None.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

import httpx

from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.statistics.model import QueueStatistics
from taskfleet_core.statistics.rabbitmq_declares import PassiveDeclares
from taskfleet_core.statistics.rabbitmq_http import DetailedMetrics, ManagementQueues

__all__ = ["RabbitStatistics"]

RETRY_BETTER_SOURCE_SECONDS = 10.0


class _Source(Protocol):
    async def fetch(self, queues: Sequence[str]) -> dict[str, QueueStatistics] | None:
        """The figures of those queues that are known; None when the source itself does not answer."""

    async def close(self) -> None: ...


class RabbitStatistics:
    """See `StatisticsReader`."""

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        *,
        management_url: str | None = None,
        metrics_url: str | None = None,
        timeout_seconds: float = 2.0,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._client = httpx.AsyncClient(timeout=timeout_seconds)
        self._sources: tuple[_Source, ...] = (
            DetailedMetrics(self._client, addresses, metrics_url),
            ManagementQueues(self._client, addresses[0], management_url),
            PassiveDeclares(addresses, timeout_seconds=timeout_seconds),
        )
        self._silent_until: dict[int, float] = {}

    async def fetch(self, queues: Sequence[str]) -> dict[str, QueueStatistics | None]:
        """See `StatisticsReader`."""
        unknown: dict[str, QueueStatistics | None] = dict.fromkeys(queues)
        if not queues:
            return unknown
        for place, source in enumerate(self._sources):
            is_last = place == len(self._sources) - 1
            if not is_last and self._silent_until.get(place, 0.0) > time.monotonic():
                continue
            figures = await self._ask(source, queues)
            if figures is not None:
                return unknown | {queue: figures[queue] for queue in queues if queue in figures}
            self._silent_until[place] = time.monotonic() + RETRY_BETTER_SOURCE_SECONDS
        # Nothing answers: the broker is down, and when it comes back the best source should be asked at once.
        self._silent_until.clear()
        return unknown

    async def close(self) -> None:
        """Close connections."""
        await asyncio.gather(*(source.close() for source in self._sources))
        await self._client.aclose()

    async def _ask(self, source: _Source, queues: Sequence[str]) -> dict[str, QueueStatistics] | None:
        try:
            async with asyncio.timeout(2 * self._timeout_seconds):
                return await source.fetch(queues)
        except TimeoutError:
            return None
