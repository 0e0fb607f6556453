"""What can be said of queues and done with their dead letters, independent of HTTP."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from taskfleet_api.access import get_caller
from taskfleet_api.background import Background, KnownQueue, QueueStatus
from taskfleet_api.live import LiveStore
from taskfleet_api.records import Records
from taskfleet_api.tasks.reading import Tasks
from taskfleet_api.tasks.visibility import find_queue
from taskfleet_core.errors import UnavailableError
from taskfleet_core.scaling import describe_report

__all__ = ["Queues"]

REDRIVE_CHUNK = 500
Counts = Mapping[str, Mapping[str, int]]


class Queues:
    """Queues as the directory, the broker, the workers and the records see them."""

    def __init__(self, *, records: Records, background: Background, tasks: Tasks, live: LiveStore) -> None:
        self._records = records
        self._background = background
        self._directory = background.directory
        self._monitor = background.monitor
        self._tasks = tasks
        self._live = live

    async def get(self, name: str) -> KnownQueue:
        """The queue. Raises NotFoundError."""
        await get_caller().prepare((name,))
        return find_queue(self._directory, name)

    async def describe(self, name: str) -> dict[str, Any]:
        """One queue with all its figures. Raises NotFoundError."""
        queue = await self.get(name)
        return self._build_document(queue, await self._fetch_counts())

    async def describe_all(self) -> Sequence[dict[str, Any]]:
        """Every queue that the caller sees, with all its figures."""
        counts = await self._fetch_counts()
        await get_caller().prepare(self._directory.names())
        known = [self._directory.get(name) for name in get_caller().select(self._directory.names())]
        return [self._build_document(queue, counts) for queue in known if queue is not None]

    async def explain(self, name: str) -> dict[str, Any]:
        """The last decision about its workers, with its steps. Raises NotFoundError, StoreUnavailableError."""
        await self.get(name)
        report = await self._live.fetch_decision(name)
        if report is None:
            return {"queue": name, "decision": None, "steps": []}
        decision = {
            "decided_at": datetime.fromtimestamp(report["at"], UTC).isoformat(),
            "replicas": report["replicas"],
            "cause": report["cause"],
            "reason": report["reason"],
            "acting": report["acting"],
            "terms": report["terms"],
        }
        return {"queue": name, "decision": decision, "steps": describe_report(report)}

    async def redrive(self, name: str, limit: int) -> tuple[int, bool]:
        """Start up to `limit` dead tasks again; how many, and whether there are more. Raises NotFoundError."""
        await self.get(name)
        done = 0
        while done < limit:
            ids = await self._records.dead_ids(name, min(REDRIVE_CHUNK, limit - done))
            started = await self._tasks.start_attempts(ids) if ids else ()
            done += len(started)
            if not started:
                break
        return done, bool(await self._records.dead_ids(name, 1))

    async def purge(self, name: str) -> int:
        """Delete the dead tasks; how many. Raises NotFoundError."""
        await self.get(name)
        return await self._records.purge_dead(name)

    async def _fetch_counts(self) -> Counts | None:
        try:
            return await self._records.queue_counts()
        except UnavailableError:
            return None

    def _build_document(self, queue: KnownQueue, counts: Counts | None) -> dict[str, Any]:
        registration = queue.registration
        return {
            "name": queue.name,
            "namespace": registration.get("namespace"),
            "task_queue": registration.get("name"),
            "broker": registration.get("broker", "default"),
            "scale_only": queue.scale_only,
            **build_figures(self._monitor.get(queue.name)),
            "records": None if counts is None else dict(counts.get(queue.name, {})),
            "limits": dict(registration.get("limits", {})),
            "degradations": [
                {"feature": item.feature, "detail": item.detail}
                for item in self._background.declarer.degradations(queue.name)
            ],
        }


def build_figures(status: QueueStatus) -> dict[str, Any]:
    """The figures of broker and workers; None where unknown. Pure."""
    workers = status.workers
    known = workers is not None
    beats = workers or ()
    return {
        "ready": status.ready,
        "unacknowledged": status.unacknowledged,
        "workers": len(beats) if known else None,
        "consuming": sum(bool(beat.get("consuming")) for beat in beats) if known else None,
        "slots": sum(beat.get("slots", 0) for beat in beats) if known else None,
        "busy": sum(beat.get("busy", 0) for beat in beats) if known else None,
        "arrivals_per_second": status.arrivals_per_second,
        "completions_per_second": status.completions_per_second,
    }
