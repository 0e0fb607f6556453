"""Subscriptions to task updates over one shared pub/sub connection."""

from collections.abc import AsyncIterator

from taskfleet_core.events import TaskEvent

__all__ = ["Subscription"]


class Subscription:
    """A bounded stream of the events of some tasks; a slow reader loses intermediate events, never the latest."""

    @property
    def connected(self) -> bool:
        """Whether updates arrive now. While False, read the record about once a second instead."""
        raise NotImplementedError

    async def next(self, timeout_seconds: float | None = None) -> TaskEvent | None:
        """Wait for the next event.

        None means: nothing came in time, or the connection was just lost or found again. In all these cases read the
        record again (a change that the API made while Redis was away is only there).
        """
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[TaskEvent]:
        """Iterate over the events for ever, skipping the Nones of `next`."""
        raise NotImplementedError
