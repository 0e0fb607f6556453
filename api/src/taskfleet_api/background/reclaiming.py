"""Reclaimer for Redis/Valkey brokers: messages in the hands of workers that are gone go back to their queue.

RabbitMQ does this itself when a connection ends; kombu on Redis waits for its visibility timeout, which is hours.
"""

import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import structlog

from taskfleet_api.background.directory import QueueDirectory
from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.live import LiveStore
from taskfleet_api.live.unacked import UnackedMessages
from taskfleet_api.telemetry import counter

__all__ = ["Reclaimer", "decide_orphans"]

log = structlog.get_logger()


def decide_orphans(
    held: Mapping[str, str], in_hand: AbstractSet[str], orphan_since: Mapping[str, float], now: float
) -> dict[str, float]:
    """Since when each delivery tag in `held` (tag -> task id) has been named by no worker without a break."""
    return {tag: orphan_since.get(tag, now) for tag, task_id in held.items() if task_id not in in_hand}


class Reclaimer:
    """Watches the messages that were taken and not acknowledged."""

    def __init__(
        self, unacked: UnackedMessages, live: LiveStore, directory: QueueDirectory, options: BackgroundOptions
    ) -> None:
        self._unacked = unacked
        self._live = live
        self._directory = directory
        self._options = options
        self._orphan_since: dict[str, dict[str, float]] = {}

    async def step(self) -> float:
        """Look once. A failed look raises and forgets all suspicion: what cannot be read is not an orphan."""
        seen, self._orphan_since = self._orphan_since, {}
        in_hand = await self._live.fetch_tasks_in_hand()
        found: dict[str, dict[str, float]] = {}
        for queue in self._directory.names():
            held = await self._unacked.fetch(queue)
            found[queue] = decide_orphans(held, in_hand, seen.get(queue, {}), time.monotonic())
            await self._restore(queue, held, found[queue])
        self._orphan_since = found
        return self._options.unacked_interval_seconds

    async def _restore(self, queue: str, held: Mapping[str, str], orphans: dict[str, float]) -> None:
        """Put back what has been an orphan for long, after a last look that misses no worker."""
        now = time.monotonic()
        ripe = [tag for tag, since in orphans.items() if now - since > self._options.unacked_idle_seconds]
        in_hand = await self._live.fetch_tasks_in_hand(certain=True) if ripe else set()
        for tag in ripe:
            del orphans[tag]
            if held[tag] not in in_hand and await self._unacked.restore(queue, tag):
                counter("taskfleet_sweeper_tasks_total").labels("reclaimed").inc()
                log.warning("message_reclaimed", queue=queue, task_id=held[tag])
