"""The history of queues as readers want it: stored intervals, and what is not rolled up yet made of finer ones."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from taskfleet_api.access import get_caller
from taskfleet_api.background import QueueDirectory
from taskfleet_api.records import QueueSample, Records
from taskfleet_api.records.sampling import (
    STEPS_SECONDS,
    fill_quiet,
    find_age,
    find_percentile,
    floor_to,
    roll_up,
)
from taskfleet_api.tasks.visibility import find_queue

__all__ = ["MAX_POINTS", "MAX_POINTS_OF_MANY", "Histories", "Span", "plan_span"]

MAX_POINTS = 1440
MAX_POINTS_OF_MANY = 400
USUAL_POINTS = 400
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # nothing is older, and times before it can still be reckoned with
DEFAULT_SPAN = timedelta(hours=1)

# The intervals that were looked at, and the samples that were kept.
Stored = tuple[list[datetime], list[QueueSample]]


@dataclass(frozen=True, slots=True)
class Span:
    """What is asked for: the intervals of this length that begin in [since, until). Whole intervals, so that the
    answer stays the same while one lasts."""

    since: datetime
    until: datetime
    step_seconds: int


def plan_span(
    now: datetime,
    since: datetime | None,
    until: datetime | None,
    step_seconds: int | None,
    history_days: float,
    most_points: int = MAX_POINTS,
) -> Span:
    """The intervals to read, the newest `most_points` at most; without a step the shortest that are kept so long and
    are not too many. Empty when it ends before it begins. Pure."""
    until = max(_EPOCH, min(until or now, now))
    since = min(since or until - DEFAULT_SPAN, until)
    seconds = (until - since).total_seconds()
    fitting = [
        step for step in STEPS_SECONDS if now - since <= find_age(step, history_days) and seconds / step <= USUAL_POINTS
    ]
    step = step_seconds or (fitting[0] if fitting else STEPS_SECONDS[-1])
    since = floor_to(max(since, until - most_points * timedelta(seconds=step)), step)
    end = floor_to(until, step)
    return Span(since, end if end == until else end + timedelta(seconds=step), step)


class Histories:
    """The history of the queues that the caller sees."""

    def __init__(self, records: Records, directory: QueueDirectory) -> None:
        self._records = records
        self._directory = directory

    async def describe(self, name: str, span: Span) -> dict[str, Any]:
        """The history of one queue, and when another number of workers was decided. Raises NotFoundError."""
        await get_caller().prepare((name,))
        find_queue(self._directory, name)
        intervals, stored = await self._fetch((name,), span)
        samples = fill_quiet(name, stored, intervals)
        return _build_span(span) | {
            "queue": name,
            "points": [build_point(sample) for sample in samples],
            "decisions": build_decisions(samples, span.step_seconds),
        }

    async def describe_many(self, names: Sequence[str], span: Span) -> dict[str, Any]:
        """What sparklines of these queues need, in columns; queues that the caller does not see are left out."""
        known = [name for name in dict.fromkeys(names) if self._directory.get(name) is not None]
        await get_caller().prepare(known)
        known = list(get_caller().select(known))
        intervals, stored = await self._fetch(known, span, lean=True)
        kept = _group_by_queue(stored)
        return _build_span(span) | {
            "at": [moment.isoformat() for moment in intervals],
            "items": [build_columns(name, fill_quiet(name, kept[name], intervals)) for name in known],
        }

    async def _fetch(self, names: Sequence[str], span: Span, *, lean: bool = False) -> Stored:
        """Stored intervals, and behind the last of them what finer ones already say."""
        step = span.step_seconds
        intervals = await self._records.fetch_intervals(step, span.since, span.until)
        samples: list[QueueSample] = []
        if intervals:
            samples = await self._records.fetch_samples(names, step, span.since, span.until, lean=lean)
        index = STEPS_SECONDS.index(step)
        if index > 0:
            since = intervals[-1] + timedelta(seconds=step) if intervals else span.since
            parts, finer = await self._fetch(names, Span(since, span.until, STEPS_SECONDS[index - 1]), lean=lean)
            intervals += sorted({floor_to(part, step) for part in parts})
            samples += roll_up(finer, parts, step)
        return intervals, samples


def _group_by_queue(samples: Sequence[QueueSample]) -> defaultdict[str, list[QueueSample]]:
    groups: defaultdict[str, list[QueueSample]] = defaultdict(list)
    for sample in samples:
        groups[sample.queue].append(sample)
    return groups


def _build_span(span: Span) -> dict[str, Any]:
    return {
        "since": span.since.astimezone(UTC).isoformat(),
        "until": span.until.astimezone(UTC).isoformat(),
        "step_seconds": span.step_seconds,
    }


def build_point(sample: QueueSample) -> dict[str, Any]:
    """A sample as it is shown. Pure."""
    return {
        "at": sample.at.isoformat(),
        "ready": sample.ready,
        "running": sample.running,
        "oldest_wait_seconds": sample.oldest_wait_seconds,
        "desired": sample.desired,
        "workers": sample.workers,
        "arrivals_per_second": sample.arrivals_per_second,
        "finished": sample.finished,
        "failed": sample.failed,
        "wait_p50_seconds": find_percentile(sample.waits or {}, 0.5),
        "wait_p95_seconds": find_percentile(sample.waits or {}, 0.95),
    }


def build_columns(name: str, samples: Sequence[QueueSample]) -> Mapping[str, Any]:
    """A queue's samples as columns. Pure."""
    return {
        "queue": name,
        "ready": [sample.ready for sample in samples],
        "finished": [sample.finished for sample in samples],
    }


def build_decisions(samples: Sequence[QueueSample], step_seconds: int) -> list[dict[str, Any]]:
    """Where another number of workers was wanted than in the interval before, with the reason, if it is known. Pure."""
    known = [sample for sample in samples if sample.desired is not None]
    return [
        {
            "at": (after.at + timedelta(seconds=step_seconds)).isoformat(),
            "before": before.desired,
            "replicas": after.desired,
            "reason": after.reason,
        }
        for before, after in pairwise(known)
        if before.desired != after.desired
    ]
