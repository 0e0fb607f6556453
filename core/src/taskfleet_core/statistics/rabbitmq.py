"""Queue figures of RabbitMQ, from the best source that answers.

1. `/metrics/detailed` of the Prometheus plugin: fresh where the broker's intervals are short, all queues in one
   request, also publish and ack counters on 4.x.
2. The management API: all queues in one request, several seconds old.
3. Passive declares: fresh, ready messages and consumers only, one call per queue.

A source that does not answer is asked again after a while. Read `closely`, declares also look for queues that the
others do not name, and sharpen the depth of those that were hinted at or that live on a broker whose metrics lag.
No source, no figure.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

import httpx

from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.statistics.freshness import Freshness
from taskfleet_core.statistics.model import QueueStatistics, ReadProblem, Trouble
from taskfleet_core.statistics.rabbitmq_declares import PassiveDeclares, pick_in_turn
from taskfleet_core.statistics.rabbitmq_http import DetailedMetrics, ManagementQueues
from taskfleet_core.tls import build_http_verification

__all__ = ["RabbitStatistics"]

RETRY_BETTER_SOURCE_SECONDS = 10.0
RETRY_DECLARES_SECONDS = 5.0
MAX_STRAYS_PER_FETCH = 20  # queues that no source names, looked for by declares

Figures = dict[str, QueueStatistics]


class _Source(Protocol):
    problem: ReadProblem | None

    @property
    def is_complete(self) -> bool:
        """Whether the last answer named every queue that exists."""

    async def fetch(self, queues: Sequence[str]) -> Figures | None:
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
        closely: bool = False,
        timeout_seconds: float = 2.0,
    ) -> None:
        self._closely = closely
        self._timeout_seconds = timeout_seconds
        https = next((url for url in (management_url, metrics_url) if url and url.startswith("https://")), None)
        verification = build_http_verification(https, addresses[0])
        self._client = httpx.AsyncClient(timeout=timeout_seconds, verify=verification)
        self._declares = PassiveDeclares(addresses, timeout_seconds=timeout_seconds)
        self._sources: tuple[_Source, ...] = (
            DetailedMetrics(self._client, addresses, metrics_url),
            ManagementQueues(self._client, addresses[0], management_url),
            self._declares,
        )
        self._silent_until: dict[int, float] = {}
        self._freshness = Freshness()
        self._stray_turn = 0
        self._no_declares_until = float("-inf")
        self._problem: ReadProblem | None = None
        self._problems: dict[str, ReadProblem] = {}

    async def fetch(self, queues: Sequence[str], hinted: Collection[str] = ()) -> dict[str, QueueStatistics | None]:
        """See `StatisticsReader`."""
        unknown: dict[str, QueueStatistics | None] = dict.fromkeys(queues)
        self._problem, self._problems = None, {}
        if not queues:
            return unknown
        for place, source in enumerate(self._sources):
            is_last = source is self._declares
            if not is_last and self._silent_until.get(place, 0.0) > time.monotonic():
                continue
            figures = await self._ask(source, queues)
            if figures is not None:
                figures = {queue: figures[queue] for queue in queues if queue in figures}
                if is_last:
                    self._tell_missing(queues, figures)
                elif self._closely:
                    await self._look_closer(source, queues, hinted, figures)
                return unknown | figures
            self._silent_until[place] = time.monotonic() + RETRY_BETTER_SOURCE_SECONDS
        # Nothing answers: the broker is down, and when it comes back the best source should be asked at once.
        self._silent_until.clear()
        self._problem = self._explain_silence()
        return unknown

    def explain(self, queue: str) -> ReadProblem | None:
        """See `StatisticsReader`."""
        return self._problem or self._problems.get(queue)

    async def close(self) -> None:
        """Close connections."""
        await asyncio.gather(*(source.close() for source in self._sources))
        await self._client.aclose()

    async def _look_closer(
        self, source: _Source, queues: Sequence[str], hinted: Collection[str], figures: Figures
    ) -> None:
        """Ask by declares for what the source does not name, and for what it may show too late."""
        strays = [queue for queue in queues if queue not in figures]
        looked = pick_in_turn(strays, self._stray_turn, MAX_STRAYS_PER_FETCH)
        self._stray_turn += len(looked)
        at = time.monotonic()
        chosen = self._freshness.choose([queue for queue in queues if queue in figures], hinted, at)
        found = await self._look([*looked, *chosen]) if looked or chosen else {}
        if found is not None:
            shown = {queue: figures[queue].ready for queue in figures}
            self._freshness.learn(shown, {queue: found[queue].ready for queue in chosen if queue in found}, at)
            for queue, seen in found.items():
                figures[queue] = replace(figures[queue], ready=seen.ready) if queue in figures else seen
        if self._freshness.is_slow(at):
            figures.update({queue: replace(seen, is_stale=True) for queue, seen in figures.items()})
        self._tell_strays(source, strays, found)

    def _tell_strays(self, source: _Source, strays: Sequence[str], found: Figures | None) -> None:
        for queue in strays:
            if found is not None and queue in found:
                continue
            if found is None and not source.is_complete:
                detail = "the broker node that leads the queue does not answer"
                self._problems[queue] = source.problem or ReadProblem(Trouble.UNREACHABLE, detail)
            elif found is None and self._declares.problem and self._declares.problem.kind is Trouble.REFUSED:
                self._problems[queue] = self._declares.problem
            else:
                self._problems[queue] = _missing(queue)

    def _tell_missing(self, queues: Sequence[str], figures: Figures) -> None:
        for queue in queues:
            if queue in self._declares.missing:
                self._problems[queue] = _missing(queue)
            elif queue not in figures:
                self._problems[queue] = ReadProblem(Trouble.UNREADABLE, "it is not this queue's turn yet")

    def _explain_silence(self) -> ReadProblem:
        problems = [source.problem for source in self._sources if source.problem is not None]
        refused = [problem for problem in problems if problem.kind is Trouble.REFUSED]
        if refused:
            return refused[-1]
        return problems[-1] if problems else ReadProblem(Trouble.UNREACHABLE, "the broker does not answer in time")

    async def _look(self, queues: Sequence[str]) -> Figures | None:
        if time.monotonic() < self._no_declares_until:
            return None
        found = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._timeout_seconds):
                found = await self._declares.look(queues)
        if found is None:
            self._no_declares_until = time.monotonic() + RETRY_DECLARES_SECONDS
        return found

    async def _ask(self, source: _Source, queues: Sequence[str]) -> Figures | None:
        try:
            async with asyncio.timeout(2 * self._timeout_seconds):
                return await source.fetch(queues)
        except TimeoutError:
            return None


def _missing(queue: str) -> ReadProblem:
    return ReadProblem(Trouble.MISSING, f"the broker has no queue {queue!r}")
