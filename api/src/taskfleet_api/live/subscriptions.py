"""Subscriptions to task updates over one shared pub/sub connection."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable

from taskfleet_core.events import TaskEvent
from taskfleet_core.waiting import wait_for_event

__all__ = ["Subscription"]

BUFFER_LIMIT = 256
BUFFER_PER_TASK = 4


class Subscription:
    """A bounded stream of the events of some tasks; a slow reader loses intermediate events, never the latest.

    Repeated and overtaken events are dropped. The hub feeds it; one reader at a time.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = frozenset(ids)
        self.unconfirmed = 0
        self._limit = max(BUFFER_LIMIT, BUFFER_PER_TASK * len(self.ids))
        self._buffer: deque[TaskEvent] = deque()
        self._seen: dict[str, tuple[int, float]] = {}
        self._seen_progress: dict[str, tuple[int, int]] = {}
        self._connected = False
        self._nudged = False
        self._arrived = asyncio.Event()
        self._ready = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether updates arrive now. While False, read the record about once a second instead."""
        return self._connected

    async def next(self, timeout_seconds: float | None = None) -> TaskEvent | None:
        """Wait for the next event.

        None means: nothing came in time, or the connection was just lost or found again. In all these cases read the
        record again (a change that the API made while Redis was away is only there).
        """
        if not self._buffer and not self._nudged:
            self._arrived.clear()
            if not await wait_for_event(self._arrived, timeout_seconds):
                return None
        if self._buffer:
            return self._buffer.popleft()
        self._nudged = False
        return None

    async def __aiter__(self) -> AsyncIterator[TaskEvent]:
        """Iterate over the events for ever, skipping the Nones of `next`."""
        while True:
            event = await self.next()
            if event is not None:
                yield event

    async def wait_ready(self, timeout_seconds: float) -> bool:
        """Wait until the channels are subscribed and the states read."""
        return await wait_for_event(self._ready, timeout_seconds)

    def push(self, event: TaskEvent) -> None:
        """Take one event unless it is a repetition or was overtaken."""
        if not self._is_news(event):
            return
        self._buffer.append(event)
        if len(self._buffer) > self._limit:
            self._keep_latest()
        self._arrived.set()

    def set_connected(self, connected: bool) -> None:
        """Tell the reader that the connection was lost or that updates arrive again."""
        if connected != self._connected:
            self._connected = connected
            if connected or self._ready.is_set():
                self._nudged = self._ready.is_set()
            self._arrived.set()
        if connected:
            self._ready.set()

    def _is_news(self, event: TaskEvent) -> bool:
        task_id = event["id"]
        if event["kind"] == "progress":
            count = (event["attempt"], event.get("progress_count", 0))
            if count <= self._seen_progress.get(task_id, (0, -1)):
                return False
            self._seen_progress[task_id] = count
            return True
        place = (event["position"], event["at"] if event["state"] == "running" else 0.0)
        if place <= self._seen.get(task_id, (-1, 0.0)):
            return False
        self._seen[task_id] = place
        return True

    def _keep_latest(self) -> None:
        latest = {(event["id"], event["kind"]): event for event in self._buffer}
        self._buffer = deque(event for event in self._buffer if latest[event["id"], event["kind"]] is event)
