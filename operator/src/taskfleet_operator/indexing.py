"""All TaskQueues by what is asked of them: by key, by queue at a broker, by queue name. Nothing here grows with the
square of their number. Knows no client and no clock."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.brokers import BrokerAccess
from taskfleet_operator.compacting import compact
from taskfleet_operator.names import get_shard
from taskfleet_operator.observing import parse_document, parse_time

__all__ = ["Entry", "Manifest", "QueueIndex", "get_key"]

Manifest = dict[str, Any]
Place = tuple[str, str]  # identity of the broker, name of the queue


def get_key(manifest: Manifest) -> str:
    """namespace/name."""
    return f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"


@dataclass(slots=True)
class Entry:
    """One TaskQueue. `queue` is None when its spec is invalid; `access` when its broker is not known."""

    key: str
    raw: Manifest
    created: datetime
    queue: TaskQueue | None = None
    error: ValidationError | None = None
    unknown_fields: tuple[str, ...] = ()  # of the spec, which a newer CRD lets through
    access: BrokerAccess | None = None
    places: tuple[Place, ...] = ()  # one for each of its queues

    @property
    def shard(self) -> str:
        """Which operator serves it."""
        return get_shard(self.raw["metadata"])

    @property
    def seniority(self) -> tuple[datetime, str, str]:
        """Of two on one queue the smaller one keeps it."""
        return self.created, self.raw["metadata"].get("uid") or "", self.key


@dataclass
class QueueIndex:
    """See the module. `revision` grows with every change that others may care about.

    TaskQueues of other shards than `shard` are known, so that two on one queue are found; their queues are not read.
    """

    shard: str = ""
    entries: dict[str, Entry] = field(default_factory=dict)
    revision: int = 0
    _places: defaultdict[Place, set[str]] = field(default_factory=lambda: defaultdict(set))
    _names: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _polled: defaultdict[BrokerAccess, defaultdict[str, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )

    def put(self, raw: Manifest) -> bool:
        """Take over a version; False when nothing but what the operator writes itself has changed."""
        key, raw = get_key(raw), compact(raw)
        old = self.entries.get(key)
        if old is not None and old.raw["metadata"].get("uid") == raw["metadata"].get("uid"):
            if _without_status(old.raw) == _without_status(raw):
                old.raw = raw
                return False
            entry = _build_entry(key, raw)
            if _get_target(old) == _get_target(entry):
                entry.access, entry.places = old.access, old.places
            else:
                self._unplace(old)
        else:
            if old is not None:
                self._unplace(old)
            entry = _build_entry(key, raw)
        self.entries[key] = entry
        self.revision += 1
        return True

    def remove(self, key: str) -> Entry | None:
        """The TaskQueue is gone; returns what was known of it."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.revision += 1
            places = entry.places
            self._unplace(entry)
            entry.places = places
        return entry

    def set_broker(self, key: str, access: BrokerAccess | None, identity: str | None) -> set[str]:
        """Its broker is known now, or is another; returns the others whose rank may have changed by that."""
        entry = self.entries[key]
        assert entry.queue is not None
        places = tuple((identity, name) for name in entry.queue.queue_weights) if identity is not None else ()
        if entry.access == access and entry.places == places:
            return set()
        touched = self.find_at(entry.places)
        self._unplace(entry)
        entry.access, entry.places = access, places
        if access is not None:
            for place in places:
                self._places[place].add(key)
                self._names[place[1]].add(key)
                if entry.shard == self.shard:
                    self._polled[access][place[1]].add(key)
            touched |= self.find_at(places)
        self.revision += 1
        return touched - {key}

    def is_ours(self, key: str) -> bool:
        """Whether a known TaskQueue is of this operator's shard."""
        entry = self.entries.get(key)
        return entry is not None and entry.shard == self.shard

    def find_older(self, key: str) -> str | None:
        """The TaskQueue that keeps a queue that this one wants too, or None."""
        firsts = (self._find_first(place) for place in self.entries[key].places)
        return next((first for first in firsts if first != key), None)

    def find_at(self, places: Iterable[Place]) -> set[str]:
        """All TaskQueues of some queues at one broker."""
        return {key for place in places for key in self._places.get(place, ())}

    def find_keys(self, access: BrokerAccess | None, names: Iterable[str]) -> list[str]:
        """The TaskQueues of these queues: at one broker, or (None) at any."""
        table: Mapping[str, set[str]] = self._names if access is None else self._polled.get(access) or {}
        return [key for name in names for key in table.get(name, ())]

    def has_namesakes(self, name: str) -> bool:
        """Whether several TaskQueues have a queue of this name, at whatever brokers."""
        return len(self._names.get(name, ())) > 1

    def get_wanted(self) -> dict[BrokerAccess, set[str]]:
        """The queues to read, by broker."""
        return {access: set(names) for access, names in self._polled.items()}

    def iterate_valid(self) -> Iterator[Entry]:
        """All TaskQueues with a sound spec."""
        return (entry for entry in self.entries.values() if entry.queue is not None)

    def _find_first(self, place: Place) -> str:
        return min(self._places[place], key=lambda key: self.entries[key].seniority)

    def _unplace(self, entry: Entry) -> None:
        if entry.access is not None:
            polled = self._polled[entry.access]
            for place in entry.places:
                _discard(self._places, place, entry.key)
                _discard(self._names, place[1], entry.key)
                _discard(polled, place[1], entry.key)
            if not polled:
                del self._polled[entry.access]
        entry.access, entry.places = None, ()


def _discard(table: dict[Any, set[str]], where: Any, key: str) -> None:
    table[where].discard(key)
    if not table[where]:
        del table[where]


def _build_entry(key: str, raw: Manifest) -> Entry:
    created = raw["metadata"].get("creationTimestamp")
    entry = Entry(key, raw, parse_time(created) if created else datetime.max.replace(tzinfo=UTC))
    try:
        entry.queue, entry.unknown_fields = parse_document(TaskQueue, raw)
    except ValidationError as error:
        entry.error = error
    return entry


def _get_target(entry: Entry) -> tuple[object, ...] | None:
    """What decides which queue at which broker is meant, as far as the spec tells."""
    return (tuple(entry.queue.queue_weights), entry.queue.spec.broker, entry.shard) if entry.queue else None


def _without_status(raw: Manifest) -> Manifest:
    metadata = {k: v for k, v in raw["metadata"].items() if k not in {"resourceVersion", "managedFields"}}
    return {**raw, "metadata": metadata, "status": None}
