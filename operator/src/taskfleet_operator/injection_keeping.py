"""Keeps the ConfigMap with the worker package in each namespace with TaskQueues, owned by all of them."""

import asyncio
import time
from collections import defaultdict
from typing import Any

from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.children.injection import Injection
from taskfleet_operator.children.metadata import build_owner
from taskfleet_operator.indexing import QueueIndex
from taskfleet_operator.kube import Kube
from taskfleet_operator.watching import Watcher

__all__ = ["InjectionKeeper"]

OWNER_SECONDS = 5.0

Manifest = dict[str, Any]


class InjectionKeeper:
    """It goes with the last TaskQueue of its namespace, by Kubernetes' garbage collection."""

    def __init__(self, kube: Kube, injection: Injection, config_maps: Watcher, index: QueueIndex) -> None:
        self._kube, self._injection, self._config_maps, self._index = kube, injection, config_maps, index
        self._ownerless_since: dict[str, float] = {}  # key of a TaskQueue that uses it unowned -> monotonic
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by namespace

    @property
    def name(self) -> str:
        """Of the ConfigMap, in every namespace."""
        return self._injection.name

    async def ensure(self, queue: TaskQueue) -> float | None:
        """Have the ConfigMap, owned by the TaskQueue too; where that is still to do, after how many seconds.

        Raises TaskfleetError when it cannot be written.
        """
        if self._is_owner(queue):
            return None
        namespace = queue.metadata.namespace
        # One at a time: at the start all workers would send the same thousand owners, and each such write is dear.
        async with self._locks[namespace]:
            if self._is_owner(queue):
                return None
            if self._find(namespace) is not None:
                # It can be used already. Those who come one after the other become owners in one write.
                now = time.monotonic()
                remaining = self._ownerless_since.setdefault(queue.key, now) + OWNER_SECONDS - now
                if remaining > 0:
                    return remaining
            await self._write(namespace)
        return None

    def forget(self, key: str) -> None:
        """The TaskQueue is gone."""
        self._ownerless_since.pop(key, None)

    async def _write(self, namespace: str) -> None:
        # All TaskQueues of the namespace at once: none takes another's reference away.
        queues = [entry.queue for entry in self._index.iterate_valid() if entry.queue is not None]
        owners = sorted((one for one in queues if one.metadata.namespace == namespace), key=lambda one: one.name)
        answer = await self._kube.apply(self._injection.build(namespace, [build_owner(owner) for owner in owners]))
        self._config_maps.put({"metadata": answer["metadata"]})
        for owner in owners:
            self._ownerless_since.pop(owner.key, None)

    def _find(self, namespace: str) -> Manifest | None:
        return self._config_maps.get(namespace, self._injection.name)

    def _is_owner(self, queue: TaskQueue) -> bool:
        present = self._find(queue.metadata.namespace)
        owners = present["metadata"].get("ownerReferences", ()) if present else ()
        return any(owner["uid"] == queue.metadata.uid for owner in owners)
