"""Keeps a copy of the labelled children of one kind by list and watch; the label is applied by the API server."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from taskfleet_core.backoff import decide_backoff_seconds
from taskfleet_core.errors import NotFoundError, TaskfleetError
from taskfleet_core.taskqueue import KIND
from taskfleet_operator.compacting import compact
from taskfleet_operator.kube import ForbiddenError, Kube
from taskfleet_operator.names import MANAGED_SELECTOR, QUEUE_LABEL

__all__ = ["Watcher", "find_owner_key"]

WATCH_SECONDS = 290
PAUSE_SECONDS = 0.5
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 1.0, 10.0

_log = structlog.get_logger()
Manifest = dict[str, Any]


def find_owner_key(child: Manifest) -> str | None:
    """The TaskQueue (namespace/name) that a child belongs to: by its owner, since labels are easily taken off, and by
    its label where another controller owns it, as with pods."""
    metadata = child["metadata"]
    owners = metadata.get("ownerReferences") or ()
    name = next((owner["name"] for owner in owners if owner["kind"] == KIND and owner.get("controller")), None)
    name = name or (metadata.get("labels") or {}).get(QUEUE_LABEL)
    return f"{metadata['namespace']}/{name}" if name else None


class Watcher:
    """The children of one kind by (namespace, name). `on_change` hears of each object that came, changed or went."""

    def __init__(
        self,
        kube: Kube,
        kind: str,
        namespace: str | None,
        on_change: Callable[[Manifest], None],
        *,
        selector: str = MANAGED_SELECTOR,
        is_optional: bool = False,
    ) -> None:
        """`is_optional`: without the kind or the right to list it there is nothing to wait for."""
        self._kube, self._kind, self._namespace = kube, kind, namespace
        self._on_change = on_change
        self._selector, self._is_optional = selector, is_optional
        self._objects: dict[tuple[str, str], Manifest] = {}
        self._owned: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)  # by the key of the TaskQueue
        self._gone: dict[tuple[str, str], int] = {}  # versions of deletions seen since the last list
        self.synced = asyncio.Event()

    def get(self, namespace: str, name: str) -> Manifest | None:
        """One object, or None."""
        return self._objects.get((namespace, name))

    def find_owned(self, key: str) -> list[Manifest]:
        """The objects that belong to a TaskQueue, in the order of their names."""
        return [self._objects[place] for place in sorted(self._owned.get(key, ()))]

    def iterate(self) -> Iterator[Manifest]:
        """All objects."""
        return iter(list(self._objects.values()))

    def put(self, manifest: Manifest) -> None:
        """Take over what a write answered, so that the next look sees it before the watch brings it. The watch may
        have been faster: an answer older than what it brought, also than a deletion, changes nothing."""
        key = self._key(manifest)
        present = self._objects.get(key)
        known = max(_order(present) if present else 0, self._gone.get(key, 0))
        if _order(manifest) > known:
            self._keep(key, manifest)

    async def run(self) -> None:
        """List, then watch, for ever."""
        failures = 0
        while True:
            try:
                version: str | None = await self._resync()
                failures = 0
                while version is not None:
                    version = await self._follow(version)
                await asyncio.sleep(PAUSE_SECONDS)  # a server that ends each watch is not asked in a tight loop
            except TaskfleetError as error:
                failures += 1
                if self._is_optional and isinstance(error, NotFoundError | ForbiddenError):
                    self._do_without(error)
                _log.warning("watch.failed", kind=self._kind, error=str(error))
                pause = decide_backoff_seconds(failures, FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, random.random())
                await asyncio.sleep(pause)

    def _do_without(self, error: TaskfleetError) -> None:
        """Objects of a kind that is gone are gone; those that may not be listed any more stay as they were."""
        if isinstance(error, NotFoundError):
            before = self._replace({})
            for item in before.values():
                self._on_change(item)
        self.synced.set()

    async def _resync(self) -> str:
        items, version = await self._kube.list_page(self._kind, self._namespace, self._selector)
        self._gone.clear()
        # Items of a list carry no kind.
        before = self._replace({self._key(item): {**item, "kind": self._kind} for item in items})
        for key, item in [*self._objects.items(), *before.items()]:
            old = before.get(key)
            same = old and key in self._objects and old["metadata"].get("resourceVersion") == _version(item)
            if not same:
                self._on_change(item)
        self.synced.set()
        return version

    async def _follow(self, version: str) -> str | None:
        """Follow changes; returns the version to go on from, or None to list anew."""
        async for change, item in self._kube.watch(self._kind, self._namespace, self._selector, version, WATCH_SECONDS):
            if change == "ERROR":
                return None  # too old: what was missed is found by listing
            version = _version(item)
            if change == "BOOKMARK":
                continue
            if change == "DELETED":
                self._drop(self._key(item))
                self._gone[self._key(item)] = _order(item)
            else:
                self._keep(self._key(item), item)
            self._on_change(item)
        return version

    def _keep(self, place: tuple[str, str], item: Manifest) -> None:
        self._drop(place)
        self._objects[place] = compact(item)
        owner = find_owner_key(item)
        if owner is not None:
            self._owned[owner].add(place)

    def _drop(self, place: tuple[str, str]) -> None:
        item = self._objects.pop(place, None)
        owner = find_owner_key(item) if item is not None else None
        if owner is not None:
            self._owned[owner].discard(place)
            if not self._owned[owner]:
                del self._owned[owner]

    def _replace(self, objects: dict[tuple[str, str], Manifest]) -> dict[tuple[str, str], Manifest]:
        """Keep these and no others; returns what was kept before."""
        before, self._objects = self._objects, {}
        self._owned.clear()
        for place, item in objects.items():
            self._keep(place, item)
        return before

    @staticmethod
    def _key(item: Manifest) -> tuple[str, str]:
        return item["metadata"]["namespace"], item["metadata"]["name"]


def _version(item: Manifest) -> str:
    version: str = item["metadata"]["resourceVersion"]
    return version


def _order(item: Manifest) -> int:
    """Resource versions of one object grow with each write (as numbers, by Kubernetes' own rule since 1.35)."""
    version = _version(item)
    return int(version) if version.isdecimal() else 0
