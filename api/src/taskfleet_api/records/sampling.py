"""Samples of a queue's figures over an interval, and how they become one of a longer interval. Pure."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

__all__ = [
    "FINEST_SECONDS",
    "STEPS_SECONDS",
    "QueueSample",
    "fill_quiet",
    "find_age",
    "find_bucket",
    "find_percentile",
    "floor_to",
    "is_quiet",
    "merge_samples",
    "roll_up",
]

T = TypeVar("T")

STEPS_SECONDS = (10, 60, 600)
"""The lengths of the intervals that are kept, each a multiple of the one before."""

FINEST_SECONDS = STEPS_SECONDS[0]

# A little more than the hour and the six hours that people ask for; the longest ones are kept as long as is set.
_AGES = {10: timedelta(minutes=65), 60: timedelta(minutes=370)}

_SMALLEST_WAIT_SECONDS = 0.01
_GROWTH = 1.25  # a percentile is right within half of that, 12 %
_MOST_BUCKETS = 90  # the last one begins at 59 days


class QueueSample(msgspec.Struct, frozen=True, gc=False):
    """What was seen of a queue in the interval that begins at `at`; None is unknown.

    Levels (`ready` to `workers`) are those at the end of the finest interval. Of longer intervals `ready` and
    `oldest_wait_seconds` are the largest, `running` and `arrivals_per_second` the mean, `desired` and `workers` the
    last. `waits` counts started tasks by the bucket of their wait (`find_bucket`). `reason` is that of a new `desired`.
    A Struct, because thousands are made for a page of sparklines.
    """

    queue: str
    at: datetime
    ready: int | None = None
    running: float | None = None
    oldest_wait_seconds: float | None = None
    desired: int | None = None
    workers: int | None = None
    arrivals_per_second: float | None = None
    finished: int | None = None
    failed: int | None = None
    waits: Mapping[int, int] | None = None
    reason: str | None = None


def find_age(step_seconds: int, history_days: float) -> timedelta:
    """The age at which intervals of this length are deleted."""
    longest = timedelta(days=history_days)
    return min(longest, _AGES.get(step_seconds, longest))


def floor_to(moment: datetime, step_seconds: int) -> datetime:
    """The beginning of the interval that holds the moment; intervals begin at multiples of their length."""
    return datetime.fromtimestamp(int(moment.timestamp()) // step_seconds * step_seconds, UTC)


def is_quiet(sample: QueueSample) -> bool:
    """Whether all is known and nothing was there: such samples are not kept, the interval's own mark says it."""
    levels = (sample.ready, sample.running, sample.workers, sample.finished, sample.failed)
    return all(level == 0 for level in levels) and not sample.desired and not sample.waits and not sample.reason


def fill_quiet(queue: str, samples: Iterable[QueueSample], intervals: Iterable[datetime]) -> list[QueueSample]:
    """The queue's sample of each of these intervals, with those that were not kept because nothing was there."""
    kept = {sample.at: sample for sample in samples}
    return [kept.get(at) or _build_quiet(queue, at) for at in intervals]


def _build_quiet(queue: str, at: datetime) -> QueueSample:
    return QueueSample(
        queue=queue, at=at, ready=0, running=0, desired=0, workers=0, arrivals_per_second=0, finished=0, failed=0
    )


def merge_samples(samples: Sequence[QueueSample], at: datetime) -> QueueSample:
    """One sample of all these of one queue, the oldest first. What none of them knows stays unknown."""
    waits: Counter[int] = Counter()
    for sample in samples:
        waits.update(sample.waits or {})
    running = _mean(sample.running for sample in samples)
    return QueueSample(
        queue=samples[0].queue,
        at=at,
        ready=max(_known(sample.ready for sample in samples), default=None),
        running=None if running is None else round(running, 2),
        oldest_wait_seconds=max(_known(sample.oldest_wait_seconds for sample in samples), default=None),
        desired=_last(sample.desired for sample in samples),
        workers=_last(sample.workers for sample in samples),
        arrivals_per_second=_mean(sample.arrivals_per_second for sample in samples),
        finished=_sum(sample.finished for sample in samples),
        failed=_sum(sample.failed for sample in samples),
        waits=waits,
        reason=_last(sample.reason for sample in samples),
    )


def roll_up(samples: Iterable[QueueSample], intervals: Sequence[datetime], step_seconds: int) -> list[QueueSample]:
    """Samples of the longer intervals that these finer `intervals`, the oldest first, lie in; each queue has one of
    every longer interval in which a sample of it was kept."""
    parts: defaultdict[datetime, list[datetime]] = defaultdict(list)
    for at in intervals:
        parts[floor_to(at, step_seconds)].append(at)
    kept: defaultdict[tuple[datetime, str], list[QueueSample]] = defaultdict(list)
    for sample in samples:
        kept[floor_to(sample.at, step_seconds), sample.queue].append(sample)
    return [
        merge_samples(fill_quiet(queue, group, parts[at]), at) for (at, queue), group in kept.items() if at in parts
    ]


def find_bucket(wait_seconds: float) -> int:
    """The bucket of a wait: each reaches a quarter further than the one before."""
    if wait_seconds <= _SMALLEST_WAIT_SECONDS:
        return 0
    return min(_MOST_BUCKETS - 1, math.ceil(math.log(wait_seconds / _SMALLEST_WAIT_SECONDS, _GROWTH)))


def find_percentile(waits: Mapping[int, int], share: float) -> float | None:
    """The wait that this share of the tasks did not exceed, within 12 %; None when no task began."""
    left = share * sum(waits.values())
    for bucket in sorted(waits):
        left -= waits[bucket]
        if left <= 0 and waits[bucket]:
            # The geometric middle of the bucket.
            return round(_SMALLEST_WAIT_SECONDS * math.pow(_GROWTH, bucket - 0.5), 4)
    return None


def _known(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]


def _last(values: Iterable[T | None]) -> T | None:
    known = _known(values)
    return known[-1] if known else None


def _sum(values: Iterable[int | None]) -> int | None:
    known = _known(values)
    return sum(known) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return sum(known) / len(known) if known else None
