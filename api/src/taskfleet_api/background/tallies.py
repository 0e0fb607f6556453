"""Tallies: what this replica saw end and begin since they were last taken, by queue. No input or output."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskfleet_api.records.sampling import find_bucket
from taskfleet_core.states import TaskState

__all__ = ["Tallies", "Tally"]

_FAILURES = frozenset({TaskState.FAILED, TaskState.DEAD, TaskState.EXPIRED})


@dataclass(slots=True)
class Tally:
    """Attempts of one queue that ended, those of them that ended badly, and the waits of those that began."""

    finished: int = 0
    failed: int = 0
    waits: Counter[int] = field(default_factory=Counter)  # by bucket

    def add(self, document: Mapping[str, Any]) -> None:
        """Add what another replica counted."""
        self.finished += int(document.get("finished", 0))
        self.failed += int(document.get("failed", 0))
        self.waits.update({int(bucket): int(count) for bucket, count in document.get("waits", {}).items()})


class Tallies:
    """Counted up by who records, taken by who writes the history."""

    def __init__(self) -> None:
        self._by_queue: dict[str, Tally] = {}

    def note_end(self, queue: str, state: str) -> None:
        """An attempt ended in this state."""
        tally = self._get(queue)
        tally.finished += 1
        tally.failed += state in _FAILURES

    def note_wait(self, queue: str, seconds: float) -> None:
        """A task began after it had waited so long."""
        self._get(queue).waits[find_bucket(seconds)] += 1

    def take(self) -> dict[str, Any]:
        """All of it as a document; counting begins again."""
        taken, self._by_queue = self._by_queue, {}
        return {
            queue: {"finished": tally.finished, "failed": tally.failed, "waits": tally.waits}
            for queue, tally in taken.items()
        }

    def give_back(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """What was taken could not be kept: it counts for the next interval."""
        for document in documents:
            for queue, counted in document.items():
                self._get(queue).add(counted)

    def _get(self, queue: str) -> Tally:
        return self._by_queue.setdefault(queue, Tally())
