"""HistoryWriter: a sample of each queue's figures every ten seconds, rolled up to minutes and ten minutes.

Any replica may write; who writes an interval's row first has written the interval. The one that wrote the last is the
first to try, so that the others need do no more than see that it is done.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import structlog

from taskfleet_api.background.clock import Clock, read_clock
from taskfleet_api.background.directory import QueueDirectory
from taskfleet_api.background.monitor import QueueMonitor, QueueStatus
from taskfleet_api.background.tallies import Tallies, Tally
from taskfleet_api.live import LiveStore
from taskfleet_api.records import QueueSample, Records
from taskfleet_api.records.sampling import FINEST_SECONDS, STEPS_SECONDS, floor_to, is_quiet, roll_up
from taskfleet_api.records.texts import chunked
from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.scaling import DecisionReport

__all__ = ["HistoryWriter", "build_sample"]

log = structlog.get_logger()

STEP = timedelta(seconds=FINEST_SECONDS)
# After the end of the interval: time for the other replicas to tell what they counted; then theirs, if I am gone.
WRITER_PATIENCE_SECONDS = 1.5
OTHERS_PATIENCE_SECONDS = 3.5
ROLLED_UP_TOGETHER = 50  # queues: some 10 ms of the loop, requests run in between
# How far back intervals that nobody rolled up are looked for: after that their samples may be gone.
CATCH_UP = {60: timedelta(minutes=30), 600: timedelta(hours=3)}


class HistoryWriter:
    """Each step does what is due of the interval that ended last: tell the tallies, then write it unless it is."""

    def __init__(
        self,
        records: Records,
        live: LiveStore,
        directory: QueueDirectory,
        monitor: QueueMonitor,
        tallies: Tallies,
        clock: Clock = read_clock,
    ) -> None:
        self._records = records
        self._live = live
        self._directory = directory
        self._monitor = monitor
        self._tallies = tallies
        self._clock = clock
        self._replica = uuid.uuid4().hex
        self._told: datetime | None = None  # the interval whose tallies were handed over
        self._done: datetime | None = None  # the interval that is written
        self._wrote: datetime | None = None  # ... by this replica
        self._desired: dict[str, int] = {}  # as of `_wrote`

    async def step(self) -> float:
        """Do what is due; how many seconds until something is again."""
        now = self._clock()
        at = floor_to(now, FINEST_SECONDS) - STEP
        late_seconds = (now - at - STEP).total_seconds()
        if self._told != at:
            await self._tell(at)
        if self._done != at:
            patience = WRITER_PATIENCE_SECONDS if self._wrote == at - STEP else OTHERS_PATIENCE_SECONDS
            if late_seconds < patience:
                return patience - late_seconds
            if not await self._records.has_interval(FINEST_SECONDS, at):
                await self._write(at)
            self._done = at
        return max(0.1, FINEST_SECONDS - (self._clock() - at - STEP).total_seconds())

    async def _tell(self, at: datetime) -> None:
        """Hand over what this replica counted; without Redis it counts for a later interval."""
        counted = self._tallies.take()
        self._told = at
        if not counted:
            return
        try:
            await self._live.note_tallies(int(at.timestamp()), self._replica, counted)
        except StoreUnavailableError:
            self._tallies.give_back([counted])

    async def _write(self, at: datetime) -> None:
        # What a replica with a slower clock told too late for the interval before counts in this one.
        intervals = [int((at - STEP).timestamp()), int(at.timestamp())]
        try:
            counted: Sequence[Mapping[str, Any]] | None = await self._live.take_tallies(intervals)
        except StoreUnavailableError:
            counted = None
        try:
            samples = await self._observe(at, counted)
            is_ours = await self._records.save_interval(
                FINEST_SECONDS, at, [one for one in samples if not is_quiet(one)]
            )
        except BaseException:
            self._tallies.give_back(counted or ())
            raise
        if not is_ours:
            self._tallies.give_back(counted or ())
            return
        self._wrote = at
        self._desired |= {sample.queue: sample.desired for sample in samples if sample.desired is not None}
        for finer, step_seconds in pairwise(STEPS_SECONDS):
            await self._roll_up(finer, step_seconds, at + STEP)

    async def _observe(self, at: datetime, counted: Sequence[Mapping[str, Any]] | None) -> list[QueueSample]:
        names = self._directory.names()
        statuses = {name: self._monitor.get(name) for name in names}
        oldest = await self._records.fetch_oldest([name for name in names if statuses[name].ready])
        try:
            decisions = await self._live.fetch_decisions(names)
        except StoreUnavailableError:
            decisions = {}
        tallies = None if counted is None else _add_up(counted)
        if self._wrote != at - STEP:
            self._desired.clear()  # another replica saw what came in between
        return [
            build_sample(
                at,
                statuses[name],
                None if tallies is None else tallies.get(name, Tally()),
                decisions.get(name),
                before=self._desired.get(name),
                oldest_since=oldest.get(name),
            )
            for name in names
        ]

    async def _roll_up(self, finer: int, step_seconds: int, until: datetime) -> None:
        """Make the longer intervals that ended by `until` and that nobody has made, of those that are kept."""
        until = floor_to(until, step_seconds)
        since = until - CATCH_UP[step_seconds]
        made = set(await self._records.fetch_intervals(step_seconds, since, until))
        finer_ones = await self._records.fetch_intervals(finer, since, until)
        for at in sorted({floor_to(one, step_seconds) for one in finer_ones} - made):
            end = at + timedelta(seconds=step_seconds)
            parts = [one for one in finer_ones if at <= one < end]
            merged: list[QueueSample] = []
            for names in chunked(self._directory.names(), ROLLED_UP_TOGETHER):
                found = await self._records.fetch_samples(names, finer, at, end)
                merged += roll_up(found, parts, step_seconds)
            await self._records.save_interval(step_seconds, at, merged)


def _add_up(documents: Iterable[Mapping[str, Any]]) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    for document in documents:
        for queue, counted in document.items():
            tallies.setdefault(queue, Tally()).add(counted)
    return tallies


def build_sample(
    at: datetime,
    status: QueueStatus,
    tally: Tally | None,
    decision: DecisionReport | None,
    *,
    before: int | None,
    oldest_since: datetime | None,
) -> QueueSample:
    """The figures of the finest interval that began at `at`. `before`: replicas wanted in the interval before. Pure."""
    beats = status.workers
    busy = None if beats is None else sum(beat.get("busy", 0) for beat in beats)
    desired = None if decision is None else decision["replicas"]
    is_decided = decision is not None and bool(desired if before is None else desired != before)
    waited = None if oldest_since is None or not status.ready else (at + STEP - oldest_since).total_seconds()
    return QueueSample(
        queue=status.queue,
        at=at,
        ready=status.ready,
        running=busy if status.unacknowledged is None else status.unacknowledged,
        oldest_wait_seconds=None if waited is None else max(0.0, waited),
        desired=desired,
        workers=None if beats is None else sum(bool(beat.get("consuming")) for beat in beats),
        arrivals_per_second=status.arrivals_per_second,
        finished=None if tally is None else tally.finished,
        failed=None if tally is None else tally.failed,
        waits=None if tally is None else tally.waits,
        reason=decision["reason"] if decision is not None and is_decided else None,
    )
