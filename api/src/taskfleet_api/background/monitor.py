"""QueueMonitor: polls broker statistics and heartbeats; unknown stays None and is never zero."""

from collections.abc import Sequence
from dataclasses import dataclass

from taskfleet_core.events import Heartbeat

__all__ = ["QueueMonitor", "QueueStatus"]


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What broker and workers said about a queue at the last poll; None = unknown."""

    queue: str
    ready: int | None
    unacknowledged: int | None
    arrivals_per_second: float | None
    completions_per_second: float | None
    workers: Sequence[Heartbeat] | None
    at: float | None  # Unix seconds of the broker's answer


class QueueMonitor:
    """The newest status of each queue; reads are synchronous and never fail."""

    def get(self, queue: str) -> QueueStatus:
        """Get the newest status of a queue; all None for one never polled."""
        raise NotImplementedError

    def all(self) -> dict[str, QueueStatus]:
        """Get the newest status of every queue in the directory."""
        raise NotImplementedError

    def has_workers(self, queue: str) -> bool | None:
        """Whether a living worker consumes the queue; None when heartbeats cannot be read."""
        raise NotImplementedError
