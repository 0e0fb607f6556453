"""QueueDirectory: which queues and task names exist; from Redis, from the SQL copy when Redis is empty or away."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import structlog

from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.live import LiveStore
from taskfleet_api.records import Records
from taskfleet_core.errors import RecordsUnavailableError, StoreUnavailableError
from taskfleet_core.events import QueueRegistration

__all__ = ["KnownQueue", "QueueDirectory"]

log = structlog.get_logger()

MAX_NAME_LENGTH = 255
FORGOTTEN_SHOWN = 10  # names in one line of the log
POOLS_WITHOUT_TERMINATION = frozenset({"threads", "solo"})
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class KnownQueue:
    """One registered queue; `scale_only` when its broker is not one of the API's."""

    name: str
    registration: QueueRegistration
    scale_only: bool
    catalog: Mapping[str, Any]  # task name -> JSON schema of its parameters; empty = nothing announced yet

    @property
    def pool(self) -> str:
        """The kind of Celery's pool in which its workers run tasks."""
        return str(self.registration.get("limits", {}).get("pool", "prefork"))

    @property
    def can_stop_tasks(self) -> bool:
        """Whether its workers can end a task that runs."""
        return self.pool not in POOLS_WITHOUT_TERMINATION


class QueueDirectory:
    """In-memory copy of registry and catalogs; reads are synchronous and never fail.

    A queue is forgotten when who announced it says so, or when a registry that holds others misses it for long: an
    emptied Redis says nothing.
    """

    def __init__(
        self,
        records: Records,
        live: LiveStore,
        options: BackgroundOptions,
        has_workers: Callable[[str], bool | None],
    ) -> None:
        self._records = records
        self._live = live
        self._options = options
        self._has_workers = has_workers
        self._queues: dict[str, KnownQueue] = {}
        self._saved: dict[str, QueueRegistration] = {}
        self._saved_catalogs: dict[str, Mapping[str, Any]] = {}
        self._missing_since: dict[str, float] = {}
        self._is_loaded = False
        self._catalogs_at = float("-inf")

    def names(self) -> list[str]:
        """Get the names of all queues, sorted."""
        return sorted(self._queues)

    def get(self, name: str) -> KnownQueue | None:
        """Get one queue by the name that HTTP paths use."""
        return self._queues.get(name)

    def knows_task(self, queue: str, task: str) -> bool | None:
        """Whether the queue's workers announced the task; None when nobody can say.

        "No" needs a living worker: what the last ones announced may be older than a deployment, and a queue without
        workers gets new ones only by a task that is accepted.
        """
        known = self._queues.get(queue)
        if known is None or not known.catalog:
            return None
        return True if task in known.catalog else (False if self._has_workers(queue) else None)

    async def step(self) -> float:
        """One refresh of the supervised loop."""
        await self.refresh()
        return self._options.directory_interval_seconds

    async def refresh(self) -> None:
        """Read registry and catalogs once. Raises only after the in-memory copy is as good as it can be."""
        if not self._is_loaded:
            await self._load_copy()
        registrations = await self._live.fetch_registry()
        for registration in registrations:
            if _is_sound(registration):
                self._put(registration)
        registered = {registration["queueName"] for registration in registrations}
        await self._forget(await self._live.fetch_removed_queues() - registered)
        await self._forget_missing(registered)
        if time.monotonic() - self._catalogs_at >= self._options.catalog_interval_seconds:
            await self._refresh_catalogs()
        await self._save_changes()

    async def register(self, registration: QueueRegistration) -> None:
        """Add a queue on behalf of this process: in memory, in the SQL copy and, if it answers, in Redis."""
        self._put(registration)
        await self._save_changes()
        try:
            await self._live.register(registration)
        except StoreUnavailableError as error:
            log.warning("registration_not_in_redis", queue=registration["queueName"], error=str(error))

    async def _load_copy(self) -> None:
        """The SQL copy, once. What Redis already told is newer."""
        try:
            registrations = await self._records.load_queues()
            catalogs = await self._records.load_catalogs()
        except RecordsUnavailableError as error:
            log.warning("queue_copy_unreadable", error=str(error))
            return
        self._is_loaded = True
        for registration in registrations:
            name = registration["queueName"]
            self._saved[name] = registration
            self._saved_catalogs[name] = catalogs.get(name, {})
            if name not in self._queues:
                self._put(registration, catalogs.get(name))

    def _put(self, registration: QueueRegistration, catalog: Mapping[str, Any] | None = None) -> None:
        name = registration["queueName"]
        known = self._queues.get(name)
        if catalog is None:
            catalog = known.catalog if known else _NOTHING
        scale_only = registration.get("broker", self._options.broker_name) != self._options.broker_name
        self._queues[name] = KnownQueue(name, registration, scale_only, catalog)

    async def _forget_missing(self, registered: set[str]) -> None:
        now = time.monotonic()
        missing = set(self._queues) - registered if registered else set()
        self._missing_since = {name: self._missing_since.get(name, now) for name in missing}
        late = self._options.registry_forget_seconds
        await self._forget({name for name, since in self._missing_since.items() if now - since >= late})

    async def _forget(self, names: set[str]) -> None:
        names = names & self._queues.keys()
        if not names:
            return
        await self._records.delete_queues(sorted(names))
        for name in names:
            self._queues.pop(name)
            self._saved.pop(name, None)
            self._saved_catalogs.pop(name, None)
            self._missing_since.pop(name, None)
        log.info("queues_forgotten", queues=sorted(names)[:FORGOTTEN_SHOWN], count=len(names))

    async def _refresh_catalogs(self) -> None:
        catalogs = await self._live.fetch_catalogs(self.names())
        for name, catalog in catalogs.items():
            known = self._queues.get(name)
            if catalog and known is not None and catalog != known.catalog:
                self._put(known.registration, MappingProxyType(catalog))
        self._catalogs_at = time.monotonic()

    async def _save_changes(self) -> None:
        changed = [
            known.registration
            for name, known in self._queues.items()
            if name not in self._saved or _content(known.registration) != _content(self._saved[name])
        ]
        if changed:
            await self._records.save_queues(changed)
            self._saved.update({registration["queueName"]: registration for registration in changed})
        for name, known in list(self._queues.items()):
            if known.catalog and known.catalog != self._saved_catalogs.get(name):
                await self._records.save_catalog(name, dict(known.catalog))
                self._saved_catalogs[name] = known.catalog


def _is_sound(registration: QueueRegistration) -> bool:
    name: object = registration.get("queueName")
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH


def _content(registration: QueueRegistration) -> dict[str, Any]:
    """A registration without the time of its last refresh."""
    return {key: value for key, value in registration.items() if key != "at"}
