"""Reads the numbers of all queues: one lane per broker, each with one statistics request per node and second, and the
heartbeats of all workers in one look. A broker that hangs holds up nobody but its own queues.

The poll is the truth. A wake hint (a submission to a sleeping queue) only makes the next round come at once.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from taskfleet_core.ending import end_tasks
from taskfleet_core.events import Heartbeat
from taskfleet_core.statistics import (
    QueueStatistics,
    ReadProblem,
    StatisticsReader,
    Trouble,
    open_statistics,
    sum_statistics,
)
from taskfleet_core.waiting import wait_for_event
from taskfleet_operator.brokers import BrokerAccess
from taskfleet_operator.store import Store

__all__ = ["Numbers", "Poller", "open_reader"]

MIN_WAKE_GAP_SECONDS = 0.1
HINT_ROUNDS = 3  # a message may become visible a moment after the hint
MIN_ROUND_SECONDS = 5.0  # a round may always take this long

_log = structlog.get_logger()

Wanted = Mapping[BrokerAccess, set[str]]


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is known of one queue now."""

    statistics: QueueStatistics | None = None
    problem: ReadProblem | None = None  # why there are no statistics; None also before the first look
    heartbeats: tuple[Heartbeat, ...] | None = None


@dataclass
class _Lane:
    """One broker."""

    reader: StatisticsReader
    task: asyncio.Task[None] | None = None
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    hints: dict[str, int] = field(default_factory=dict)  # queue -> rounds in which to look closely
    statistics: dict[str, QueueStatistics | None] = field(default_factory=dict)
    problems: dict[str, ReadProblem] = field(default_factory=dict)
    was_silent: bool = False
    began_at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None  # monotonic, end of the last round
    seconds: float = 0.0


def open_reader(access: BrokerAccess) -> StatisticsReader:
    """A reader for decisions each second."""
    return open_statistics(access.url, access.management_url, access.metrics_url, closely=True)


@dataclass
class Poller:
    """`wanted` tells which queues there are by broker; the callbacks hear of queues to look at, of queues that the
    broker does not know, and of brokers that answer again."""

    store: Store
    wanted: Callable[[], Wanted]
    on_numbers: Callable[[BrokerAccess | None, set[str]], None]  # None: queues of this name at any broker
    on_missing: Callable[[BrokerAccess, set[str]], None] = lambda broker, queues: None
    on_return: Callable[[BrokerAccess], None] = lambda broker: None
    interval_seconds: float = 1.0
    open_reader: Callable[[BrokerAccess], StatisticsReader] = open_reader
    _lanes: dict[BrokerAccess, _Lane] = field(default_factory=dict)
    _beats: dict[str, list[Heartbeat]] | None = None
    _beats_at: float | None = None

    @property
    def beat_at(self) -> float | None:
        """When the round ended that is the longest ago, monotonic; a lane that has just begun counts from then."""
        if self._beats_at is None or not self._lanes:
            return None
        return min(self._beats_at, *(lane.ended_at or lane.began_at for lane in self._lanes.values()))

    @property
    def round_seconds(self) -> float:
        """Duration of the slowest of the last rounds."""
        return max((lane.seconds for lane in self._lanes.values()), default=0.0)

    def get(self, broker: BrokerAccess | None, queue: str) -> Numbers:
        """The newest numbers of a queue."""
        beats = None if self._beats is None else tuple(self._beats.get(queue, ()))
        lane = self._lanes.get(broker) if broker is not None else None
        if lane is None:
            return Numbers(heartbeats=beats)
        return Numbers(lane.statistics.get(queue), lane.problems.get(queue), beats)

    def get_all(self, broker: BrokerAccess | None, queues: Iterable[str]) -> Numbers:
        """The newest numbers of several queues as if they were one; heartbeats go by the first."""
        each = [self.get(broker, queue) for queue in queues]
        problem = next((numbers.problem for numbers in each if numbers.problem), None)
        return Numbers(sum_statistics([numbers.statistics for numbers in each]), problem, each[0].heartbeats)

    def wake(self, queue: str) -> None:
        """A sleeping queue got its first task: look at once."""
        for lane in self._lanes.values():
            if queue in lane.statistics:
                lane.hints[queue] = HINT_ROUNDS
                lane.woken.set()

    async def run(self) -> None:
        """Poll for ever."""
        beats = asyncio.create_task(self._follow_heartbeats(), name="heartbeats")
        try:
            while not beats.done():
                await self._sync_lanes()
                await asyncio.wait([beats], timeout=min(1.0, self.interval_seconds))
            beats.result()
        finally:
            await end_tasks([beats])
            for broker in list(self._lanes):
                await self._stop_lane(broker)

    async def _sync_lanes(self) -> None:
        wanted = self.wanted()
        for broker in [broker for broker in self._lanes if broker not in wanted]:
            await self._stop_lane(broker)
        for broker in wanted:
            if broker not in self._lanes:
                lane = self._lanes[broker] = _Lane(self.open_reader(broker))
                lane.task = asyncio.create_task(self._follow(broker, lane), name="poll")

    async def _stop_lane(self, broker: BrokerAccess) -> None:
        lane = self._lanes.pop(broker)
        await end_tasks([lane.task])
        await lane.reader.close()

    # -- heartbeats ------------------------------------------------------------------------------------------------

    async def _follow_heartbeats(self) -> None:
        while True:
            began = time.monotonic()
            beats = await self.store.fetch_heartbeats()
            changed = _find_changed_beats(self._beats, beats)
            self._beats, self._beats_at = beats, time.monotonic()
            if changed is None:
                for broker, queues in self.wanted().items():
                    self.on_numbers(broker, set(queues))
            elif changed:
                self.on_numbers(None, changed)
            await asyncio.sleep(max(MIN_WAKE_GAP_SECONDS, self.interval_seconds - (time.monotonic() - began)))

    # -- statistics ------------------------------------------------------------------------------------------------

    async def _follow(self, broker: BrokerAccess, lane: _Lane) -> None:
        while True:
            began = time.monotonic()
            lane.woken.clear()
            hints = set(lane.hints)
            lane.hints = {queue: rounds - 1 for queue, rounds in lane.hints.items() if rounds > 1}
            try:
                await self._poll(broker, lane, hints)
            except Exception:  # an answer that nobody thought of must not end the polling
                _log.exception("poll.failed")
            lane.ended_at = time.monotonic()
            lane.seconds = lane.ended_at - began
            await self._pause(lane, max(MIN_WAKE_GAP_SECONDS, self.interval_seconds - lane.seconds))

    async def _poll(self, broker: BrokerAccess, lane: _Lane, hints: set[str]) -> None:
        names = self.wanted().get(broker, set())
        statistics, problems = await self._fetch(lane, names, hints)
        changed = {
            queue
            for queue, figures in statistics.items()
            if queue not in lane.statistics
            or _get_depth(figures) != _get_depth(lane.statistics[queue])
            or problems.get(queue) != lane.problems.get(queue)
        }
        lane.statistics, lane.problems = statistics, problems
        missing = {queue for queue, problem in problems.items() if problem.kind is Trouble.MISSING}
        is_silent = (
            bool(names) and all(figures is None for figures in statistics.values()) and len(missing) < len(names)
        )
        if lane.was_silent and not is_silent:
            self.on_return(broker)
        lane.was_silent = is_silent
        if missing:
            self.on_missing(broker, missing)
        if changed or hints:
            self.on_numbers(broker, changed | (hints & names))

    async def _fetch(
        self, lane: _Lane, names: set[str], hints: set[str]
    ) -> tuple[dict[str, QueueStatistics | None], dict[str, ReadProblem]]:
        try:
            async with asyncio.timeout(max(MIN_ROUND_SECONDS, 5 * self.interval_seconds)):
                answer = await lane.reader.fetch(sorted(names), hints)
        except TimeoutError:
            problem = ReadProblem(Trouble.UNREACHABLE, "the broker does not answer in time")
            return dict.fromkeys(names), dict.fromkeys(names, problem)
        problems = {queue: lane.reader.explain(queue) for queue, figures in answer.items() if figures is None}
        return answer, {queue: problem for queue, problem in problems.items() if problem is not None}

    async def _pause(self, lane: _Lane, seconds: float) -> None:
        if not await wait_for_event(lane.woken, seconds):
            return
        # Many hints at once are one round; the first one of a quiet time is not kept waiting.
        if time.monotonic() - (lane.ended_at or 0.0) < MIN_WAKE_GAP_SECONDS:
            await asyncio.sleep(MIN_WAKE_GAP_SECONDS)


def _get_depth(figures: QueueStatistics | None) -> tuple[object, ...] | None:
    """What makes a queue worth a look. Time stamps do not count: an idle queue looks the same each second."""
    return (figures.ready, figures.unacknowledged, figures.published) if figures else None


def _find_changed_beats(
    old: dict[str, list[Heartbeat]] | None, new: dict[str, list[Heartbeat]] | None
) -> set[str] | None:
    """The queues whose workers say something new; None for all, when the store went away or came back."""
    if old is None or new is None:
        return set() if old is new else None
    names = old.keys() | new.keys()
    return {name for name in names if _get_essence(old.get(name, [])) != _get_essence(new.get(name, []))}


def _get_essence(beats: list[Heartbeat]) -> list[tuple[object, ...]]:
    return sorted((beat["host"], beat["busy"], beat["consuming"], beat["completed"]) for beat in beats)
