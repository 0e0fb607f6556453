"""LiveStore: what the API reads and writes in Redis/Valkey.

Every call is bounded by a time limit and raises StoreUnavailableError; nothing here is the truth, SQL is.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from taskfleet_api.live.subscriptions import Subscription
from taskfleet_core.events import Heartbeat, QueueRegistration, TaskEvent

__all__ = ["LiveState", "LiveStore", "StreamEntry"]


@dataclass(frozen=True, slots=True)
class LiveState:
    """The live state of one task: its newest state event and its newest progress event."""

    event: TaskEvent | None
    progress: TaskEvent | None


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry of the event stream; `event` is None when it cannot be read (see `problem`)."""

    entry_id: str
    event: TaskEvent | None
    problem: str | None = None


class LiveStore:
    """One process's access to Redis/Valkey. `start` never fails: without Redis, calls raise until it is back."""

    def __init__(self, url: str, *, timeout_seconds: float = 2.0) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """Start the shared pub/sub connection in the background."""
        raise NotImplementedError

    async def close(self) -> None:
        """End subscriptions and close all connections."""
        raise NotImplementedError

    async def ping(self) -> None:
        """Ask Redis for a sign of life; for readiness."""
        raise NotImplementedError

    async def fetch_states(self, ids: Sequence[str]) -> dict[str, LiveState]:
        """Fetch the live states of the tasks that have one."""
        raise NotImplementedError

    def subscribe(self, ids: Iterable[str]) -> AbstractAsyncContextManager[Subscription]:
        """Follow the tasks `ids`; on entry the channels are subscribed, so read the record after entering.

        Entering never raises and waits at most the store's time limit: without Redis the subscription starts with
        `connected == False` and recovers by itself. The newest live states come first, as ordinary events; events can
        repeat (compare `position` and `progress_count`).
        """
        raise NotImplementedError

    async def announce(self, event: TaskEvent) -> bool:
        """Write an event of the API itself (cancelled, expired, dead, ...) as live state and tell subscribers.

        Returns False when a newer live state exists. The record must have been committed before: nothing goes into
        the event stream.
        """
        raise NotImplementedError

    async def cancel(self, queue: str, task_id: str, *, terminate: bool = False) -> None:
        """Tell the workers of `queue` not to run the task, or to terminate it if they run it."""
        raise NotImplementedError

    async def wake(self, queue: str) -> None:
        """Hint that `queue` got a message while it has no workers."""
        raise NotImplementedError

    async def fetch_registry(self) -> list[QueueRegistration]:
        """Fetch all registered queues; an empty list is what an emptied Redis says."""
        raise NotImplementedError

    async def register(self, registration: QueueRegistration) -> None:
        """Write one queue into the registry."""
        raise NotImplementedError

    async def unregister(self, queue: str) -> None:
        """Take one queue out of the registry."""
        raise NotImplementedError

    async def fetch_catalog(self, queue: str) -> dict[str, Any]:
        """Fetch task name -> JSON schema of its parameters, as the queue's workers announced them."""
        raise NotImplementedError

    async def fetch_heartbeats(self, queue: str | None = None) -> list[Heartbeat]:
        """Fetch the heartbeats of all living workers, or of those of one queue."""
        raise NotImplementedError

    async def read_events(self, consumer: str, *, limit: int, block_seconds: float) -> list[StreamEntry]:
        """Read new entries of the event stream for `consumer` of the recorder group."""
        raise NotImplementedError

    async def reclaim_events(self, consumer: str, *, idle_seconds: float, limit: int) -> list[StreamEntry]:
        """Take over entries that another consumer read, but did not acknowledge for `idle_seconds`."""
        raise NotImplementedError

    async def ack_events(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge and delete entries whose effect is committed."""
        raise NotImplementedError
