"""QueueMonitor: polls broker statistics and heartbeats; unknown stays None and is never zero."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.live import LiveStore
from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.events import Heartbeat
from taskfleet_core.statistics import QueueStatistics, StatisticsReader

__all__ = ["QueueMonitor", "QueueStatus"]

RATE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What broker and workers said about a queue at the last poll; None = unknown."""

    queue: str
    ready: int | None = None
    unacknowledged: int | None = None
    arrivals_per_second: float | None = None
    completions_per_second: float | None = None
    workers: Sequence[Heartbeat] | None = None
    at: float | None = None  # Unix seconds of the broker's answer


@dataclass(slots=True)
class _History:
    """The figures of one queue over the last seconds, and since when the broker had nothing of it."""

    figures: deque[QueueStatistics] = field(default_factory=deque)
    quiet_since: float | None = None

    def add(self, new: QueueStatistics | None, now: float) -> None:
        if new is None:
            self.figures.clear()
            self.quiet_since = None
            return
        last = self.figures[-1] if self.figures else None
        if last is not None and _counters(new) < _counters(last):
            self.figures.clear()  # the broker counts from zero again
        while self.figures and new.at - self.figures[0].at > RATE_SECONDS:
            self.figures.popleft()
        self.figures.append(new)
        moved = last is not None and _counters(new) != _counters(last)
        if not is_empty(new) or moved:
            self.quiet_since = None
        elif self.quiet_since is None:
            self.quiet_since = now

    def rates(self) -> tuple[float | None, float | None]:
        """Arrivals and completions a second from the broker's counters."""
        if len(self.figures) < 2:
            return None, None
        first, last = self.figures[0], self.figures[-1]
        seconds = last.at - first.at
        return _rate(first.published, last.published, seconds), _rate(first.acknowledged, last.acknowledged, seconds)


def is_empty(figures: QueueStatistics) -> bool:
    """Whether the broker has nothing of the queue. Where it does not tell what is in hand: when nobody consumes."""
    in_hand = figures.consumers if figures.unacknowledged is None else figures.unacknowledged
    return figures.ready == 0 and in_hand == 0


def _counters(figures: QueueStatistics) -> tuple[int, int]:
    return figures.published or 0, figures.acknowledged or 0


def _rate(first: int | None, last: int | None, seconds: float) -> float | None:
    if first is None or last is None or seconds <= 0:
        return None
    return max(0, last - first) / seconds


class QueueMonitor:
    """The newest status of each queue; reads are synchronous and never fail."""

    def __init__(
        self,
        queues: Callable[[], Sequence[str]],
        statistics: StatisticsReader,
        live: LiveStore,
        options: BackgroundOptions,
    ) -> None:
        self._queues = queues
        self._statistics = statistics
        self._live = live
        self._options = options
        self._status: dict[str, QueueStatus] = {}
        self._history: dict[str, _History] = {}
        self._completed: deque[tuple[float, dict[str, int]]] = deque()
        self._heartbeats_since: float | None = None

    def get(self, queue: str) -> QueueStatus:
        """Get the newest status of a queue; all None for one never polled."""
        return self._status.get(queue) or QueueStatus(queue)

    def all(self) -> dict[str, QueueStatus]:
        """Get the newest status of every queue that was polled last."""
        return dict(self._status)

    def has_workers(self, queue: str) -> bool | None:
        """Whether a living worker consumes the queue; None when heartbeats cannot be read."""
        workers = self.get(queue).workers
        return None if workers is None else any(worker.get("consuming") for worker in workers)

    def quiet_seconds(self, queue: str) -> float | None:
        """How long the broker has had nothing of the queue without a break; None while it has, or while unknown."""
        history = self._history.get(queue)
        if history is None or history.quiet_since is None:
            return None
        return time.monotonic() - history.quiet_since

    def heartbeats_readable_seconds(self) -> float | None:
        """For how long heartbeats could be read without a break; None while they cannot."""
        return None if self._heartbeats_since is None else time.monotonic() - self._heartbeats_since

    async def step(self) -> float:
        """Poll once: all queues in one request, all heartbeats in another."""
        names = list(self._queues())
        figures = await self._statistics.fetch(names) if names else {}
        workers = await self._fetch_workers()
        now = time.monotonic()
        self._history = {name: self._history.get(name) or _History() for name in names}
        for name, history in self._history.items():
            history.add(figures.get(name), now)
        self._status = {name: self._build_status(name, figures.get(name), workers) for name in names}
        return self._options.monitor_interval_seconds

    async def _fetch_workers(self) -> dict[str, list[Heartbeat]] | None:
        try:
            heartbeats = await self._live.fetch_heartbeats()
        except StoreUnavailableError:
            self._heartbeats_since = None
            self._completed.clear()
            return None
        if self._heartbeats_since is None:
            self._heartbeats_since = time.monotonic()
        by_queue: dict[str, list[Heartbeat]] = {}
        for beat in heartbeats:
            for queue in beat.get("queues") or (beat["queue"],):
                by_queue.setdefault(queue, []).append(beat)
        self._note_completions(by_queue)
        return by_queue

    def _note_completions(self, workers: dict[str, list[Heartbeat]]) -> None:
        now = time.monotonic()
        while self._completed and now - self._completed[0][0] > RATE_SECONDS:
            self._completed.popleft()
        counts = {queue: sum(beat.get("completed", 0) for beat in beats) for queue, beats in workers.items()}
        self._completed.append((now, counts))

    def _build_status(
        self, name: str, figures: QueueStatistics | None, workers: dict[str, list[Heartbeat]] | None
    ) -> QueueStatus:
        arrivals, completions = self._history[name].rates()
        if completions is None:
            completions = self._worker_completions(name)
        if arrivals is None and completions is not None:
            arrivals = self._arrivals_from_depth(name, completions)
        return QueueStatus(
            queue=name,
            ready=figures.ready if figures else None,
            unacknowledged=figures.unacknowledged if figures else None,
            arrivals_per_second=arrivals,
            completions_per_second=completions,
            workers=None if workers is None else workers.get(name, []),
            at=figures.at if figures else None,
        )

    def _worker_completions(self, name: str) -> float | None:
        """What the workers completed, for brokers that do not count; a worker that left makes it unknown for once."""
        if len(self._completed) < 2:
            return None
        (first_at, first), (last_at, last) = self._completed[0], self._completed[-1]
        difference = last.get(name, 0) - first.get(name, 0)
        return difference / (last_at - first_at) if difference >= 0 and last_at > first_at else None

    def _arrivals_from_depth(self, name: str, completions: float) -> float | None:
        figures = self._history[name].figures
        if len(figures) < 2 or figures[-1].at <= figures[0].at:
            return None
        depths = [item.ready + (item.unacknowledged or 0) for item in (figures[0], figures[-1])]
        return max(0.0, (depths[1] - depths[0]) / (figures[-1].at - figures[0].at) + completions)
