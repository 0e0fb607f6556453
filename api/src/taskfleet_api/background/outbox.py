"""Outbox: the one way from messages to the broker, shared by dispatcher and sweeper; counts, declares, wakes."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from taskfleet_api.brokers import FailureKind, Message, Publisher, PublishFailure
from taskfleet_api.live import LiveStore
from taskfleet_api.telemetry import counter, histogram
from taskfleet_core.waiting import wait_for_event

if TYPE_CHECKING:
    from taskfleet_api.background.declaring import QueueDeclarer
    from taskfleet_api.background.monitor import QueueMonitor

__all__ = ["Outbox"]

log = structlog.get_logger()

WAKE_PAUSE_SECONDS = 0.5  # between two hints for the same queue
WAKE_IDLE_SECONDS = 5.0


class Outbox:
    """Publishes and takes care of what follows: a returned message asks for its queue, a sleeping queue is woken."""

    def __init__(self, publisher: Publisher, live: LiveStore, monitor: "QueueMonitor", declarer: "QueueDeclarer"):
        self._publisher = publisher
        self._live = live
        self._monitor = monitor
        self._declarer = declarer
        self._woken_at: dict[str, float] = {}
        self._to_wake: set[str] = set()
        self._waking = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether the broker takes messages now."""
        return self._publisher.connected and self._publisher.blocked is None

    async def publish(self, messages: Sequence[Message]) -> list[PublishFailure | None]:
        """Publish all; per message None once confirmed, else why not."""
        started = time.perf_counter()
        outcomes = await self._publisher.publish(messages)
        histogram("taskfleet_api_publish_seconds").observe(time.perf_counter() - started)
        counts: Counter[tuple[str, str]] = Counter()
        for message, failure in zip(messages, outcomes, strict=True):
            counts[message.queue, "confirmed" if failure is None else failure.kind.value] += 1
        for (queue, outcome), count in counts.items():
            counter("taskfleet_api_published_total").labels(queue, outcome).inc(count)
            self._follow_up(queue, outcome, count)
        return outcomes

    def _follow_up(self, queue: str, outcome: str, count: int) -> None:
        if outcome != "confirmed":
            log.warning("publish_failed", queue=queue, reason=outcome, messages=count)
        if outcome == FailureKind.RETURNED:
            self._declarer.ask(queue)
        elif outcome == "confirmed" and self._monitor.has_workers(queue) is not True:
            self._to_wake.add(queue)
            self._waking.set()

    async def wake_step(self) -> float:
        """Send the hints for queues without workers; a lost hint costs one interval of the poll, nothing more."""
        await wait_for_event(self._waking, WAKE_IDLE_SECONDS)
        now = time.monotonic()
        ready = {queue for queue in self._to_wake if now - self._woken_at.get(queue, -60.0) > WAKE_PAUSE_SECONDS}
        self._to_wake -= ready
        for queue in ready:
            self._woken_at[queue] = now
            await self._live.wake(queue)
        if self._to_wake:
            return WAKE_PAUSE_SECONDS / 2
        self._waking.clear()
        return 0.0
