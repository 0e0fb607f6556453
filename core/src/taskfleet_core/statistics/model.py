"""The figures of a queue and who reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["QueueStatistics", "StatisticsReader"]


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


class StatisticsReader(Protocol):
    """Reads the figures of many queues at once."""

    async def fetch(self, queues: Sequence[str]) -> dict[str, QueueStatistics | None]:
        """Figures of each queue asked for; None for what cannot be known now (broker down, no such queue).

        Never raises because of the broker, and never answers zero for "unknown".
        """

    async def close(self) -> None:
        """Close connections."""
