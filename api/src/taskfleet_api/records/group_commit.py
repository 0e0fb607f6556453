"""Group commit: submissions that arrive while a commit is under way share the next one. No timer, no added wait."""

from collections.abc import Sequence

from taskfleet_api.records.model import NewTask, Outcome
from taskfleet_api.records.store import Records

__all__ = ["GroupCommit"]


class GroupCommit:
    """Collects concurrent submissions into one transaction each round; bounded by `max_waiting` tasks."""

    def __init__(self, records: Records, *, max_batch: int = 1000, max_waiting: int = 20_000) -> None:
        raise NotImplementedError

    async def submit(self, tasks: Sequence[NewTask]) -> list[Outcome]:
        """Record the tasks, sharing a commit; raises OverloadedError when too many wait.

        A cancelled caller does not take its tasks back: they may be recorded.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Finish what was submitted."""
        raise NotImplementedError
