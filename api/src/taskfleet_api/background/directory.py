"""QueueDirectory: which queues and task names exist; from Redis, from the SQL copy when Redis is empty or away."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.live import LiveStore
from taskfleet_core.events import QueueRegistration

__all__ = ["KnownQueue", "QueueDirectory"]


@dataclass(frozen=True, slots=True)
class KnownQueue:
    """One registered queue; `scale_only` when its broker is not one of the API's."""

    name: str
    registration: QueueRegistration
    scale_only: bool
    catalog: Mapping[str, Any]  # task name -> JSON schema of its parameters; empty = nothing announced yet


class QueueDirectory:
    """In-memory copy of registry and catalogs; reads are synchronous and never fail."""

    def __init__(self, records: Any, live: LiveStore, options: BackgroundOptions) -> None:
        raise NotImplementedError

    def names(self) -> list[str]:
        """Get the names of all queues, sorted."""
        raise NotImplementedError

    def get(self, name: str) -> KnownQueue | None:
        """Get one queue by the name that HTTP paths use."""
        raise NotImplementedError

    def knows_task(self, queue: str, task: str) -> bool | None:
        """Whether the queue's workers announced the task; None when they have not announced any."""
        raise NotImplementedError

    async def refresh(self) -> None:
        """Read registry and catalogs once; the refresh loop does it every second."""
        raise NotImplementedError

    async def register(self, registration: QueueRegistration) -> None:
        """Add a queue on behalf of this process: in memory, in the SQL copy and, if it answers, in Redis."""
        raise NotImplementedError
