"""Declares the queues at the broker and announces them in the registry, again every half minute."""

import asyncio
import contextlib
import importlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskfleet.local.journal import Journal
from taskfleet.local.store import LocalStore
from taskfleet_core.errors import TaskfleetError
from taskfleet_core.registrations import build_registrations
from taskfleet_core.taskqueue import TaskQueue

if TYPE_CHECKING:
    from taskfleet_core.topology import QueueSpec, Topology

__all__ = ["Registry"]

REFRESH_SECONDS = 30.0
RETRY_SECONDS = 2.0
CALL_SECONDS = 20.0


class Registry:
    """Keeps broker and registry as the files say. `complete` is set once every queue is in both."""

    def __init__(
        self, broker_url: str, management_url: str | None, store: LocalStore, journal: Journal, *, owned: bool
    ) -> None:
        self.complete = asyncio.Event()
        self.problems: dict[str, str] = {}
        self.degradations: dict[str, list[str]] = {}
        self._store, self._journal, self._owned = store, journal, owned
        self._broker_url, self._management_url = broker_url, management_url
        self._topology: Topology | None = None
        self._queues: list[TaskQueue] = []
        self._declared: dict[str, QueueSpec] = {}
        self._changed = asyncio.Event()

    def set_queues(self, queues: Sequence[TaskQueue]) -> None:
        """Take over another set of queues."""
        self._queues = list(queues)
        self._changed.set()

    async def run(self) -> None:
        """Repeat until cancelled."""
        while True:
            self._changed.clear()
            done = await self._refresh()
            if done:
                self.complete.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS if done else RETRY_SECONDS):
                    await self._changed.wait()

    async def _refresh(self) -> bool:
        await asyncio.to_thread(importlib.import_module, "taskfleet_core.topology")
        outcomes = await asyncio.gather(*(self._ensure(queue) for queue in self._queues))
        if self._owned:
            await self._remove_others()
        return all(outcomes)

    async def _ensure(self, queue: TaskQueue) -> bool:
        from taskfleet_core.topology import build_queue_specs  # not at the top: the API shall start first

        name = queue.queue_name
        try:
            async with asyncio.timeout(CALL_SECONDS):
                for spec in build_queue_specs(queue):
                    if self._declared.get(spec.name) != spec:
                        await self._declare(spec)
                await self._store.register(build_registrations(queue, time.time(), source="local"))
        except (TaskfleetError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            if self.problems.get(name) != reason:
                self._journal.warning("queue_not_declared", queue=name, reason=reason)
            self.problems[name] = reason
            return False
        self.problems.pop(name, None)
        return True

    async def _declare(self, spec: "QueueSpec") -> None:
        topology = self._open_topology()
        found = [item.detail for item in await topology.ensure_queue(spec)]
        if found != self.degradations.get(spec.name, []):
            self._journal.warning("broker_cannot", queue=spec.name, detail="; ".join(found))
        self.degradations[spec.name] = found
        self._declared[spec.name] = spec

    def _open_topology(self) -> "Topology":
        from taskfleet_core.topology import open_topology

        if self._topology is None:
            self._topology = open_topology(self._broker_url, self._management_url)
        return self._topology

    async def _remove_others(self) -> None:
        """In a store of our own, registrations of files that are gone are nobody's."""
        with contextlib.suppress(TaskfleetError):
            await self._store.remove_others(name for queue in self._queues for name in queue.queue_weights)

    async def close(self) -> None:
        """Close connections."""
        if self._topology is not None:
            await self._topology.close()
