"""The figures of a queue and who reads them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

__all__ = ["QueueStatistics", "ReadProblem", "StatisticsReader", "Trouble", "sum_statistics"]


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """Figures of one queue at one moment. `published` and `acknowledged` count up and may start again from zero.

    None means that this broker does not tell.
    """

    ready: int
    unacknowledged: int | None
    published: int | None
    acknowledged: int | None
    consumers: int | None
    at: float  # Unix seconds when the broker was asked
    is_stale: bool = False  # the source may lag by seconds; `ready` may be fresher, where it was asked of the queue


def sum_statistics(figures: Sequence[QueueStatistics | None]) -> QueueStatistics | None:
    """Figures of several queues as if they were one. What is unknown of one is unknown of all."""
    known = [each for each in figures if each is not None]
    if not known or len(known) < len(figures):
        return None
    if len(known) == 1:
        return known[0]
    return QueueStatistics(
        ready=sum(each.ready for each in known),
        unacknowledged=_sum([each.unacknowledged for each in known]),
        published=_sum([each.published for each in known]),
        acknowledged=_sum([each.acknowledged for each in known]),
        consumers=_sum([each.consumers for each in known]),
        at=min(each.at for each in known),
        is_stale=any(each.is_stale for each in known),
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


class Trouble(StrEnum):
    """Why there are no figures, told apart because each is mended elsewhere."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"  # the broker is there and refuses the credentials
    MISSING = "missing"  # the broker answers and knows no such queue
    UNREADABLE = "unreadable"  # an answer, and no figures in it


@dataclass(frozen=True, slots=True)
class ReadProblem:
    """Why the figures of a queue are not known. `detail` is for people and holds no credentials."""

    kind: Trouble
    detail: str


class StatisticsReader(Protocol):
    """Reads the figures of many queues at once."""

    async def fetch(self, queues: Sequence[str], hinted: Collection[str] = ()) -> dict[str, QueueStatistics | None]:
        """Figures of each queue asked for; None for what cannot be known now (broker down, no such queue).

        Never raises because of the broker, and never answers zero for "unknown". For the `hinted` queues the freshest
        source is asked, where there is a choice: something is known to have happened in them.
        """

    def explain(self, queue: str) -> ReadProblem | None:
        """Why the last `fetch` had no figures of a queue; None when it had."""

    async def close(self) -> None:
        """Close connections."""
