"""Dispatcher: publishes tasks right after their commit; what it cannot publish stays for the sweeper."""

from collections.abc import Sequence
from typing import Any

__all__ = ["Dispatcher"]


class Dispatcher:
    """Bounded in-memory hand-over from commit to broker; losing it loses nothing, the record says `pending`."""

    def offer(self, rows: Sequence[Any]) -> int:
        """Take committed tasks (NewTask, or TaskRecord of a new attempt); returns how many fitted.

        Never waits and never raises. Tasks with an `eta` in the future are ignored: they are the sweeper's.
        """
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """How many tasks wait in memory."""
        raise NotImplementedError
