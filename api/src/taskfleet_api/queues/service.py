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
from taskfleet_core.events import Heartbeat
from taskfleet_core.scaling import DecisionReport, describe_report

__all__ = ["Queues"]

REDRIVE_CHUNK = 500
Counts = Mapping[str, Mapping[str, int]]
Decisions = Mapping[str, DecisionReport]


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
        decisions = await self._fetch_decisions([name])
        return self._build_document(queue, await self._fetch_counts(), decisions)

    async def describe_all(self) -> Sequence[dict[str, Any]]:
        """Every queue that the caller sees, with all its figures."""
        counts = await self._fetch_counts()
        await get_caller().prepare(self._directory.names())
        names = get_caller().select(self._directory.names())
        decisions = await self._fetch_decisions(names)
        known = [self._directory.get(name) for name in names]
        return [self._build_document(queue, counts, decisions) for queue in known if queue is not None]

    async def list_workers(self, name: str) -> Sequence[dict[str, Any]] | None:
        """The queue's living workers by name; None while nobody can say. Raises NotFoundError."""
        await self.get(name)
        beats = self._monitor.get(name).workers
        return None if beats is None else sorted(map(build_worker, beats), key=lambda worker: worker["name"])

    async def explain(self, name: str) -> dict[str, Any]:
        """The last decision about its workers, with its steps. Raises NotFoundError, StoreUnavailableError."""
        await self.get(name)
        report = await self._live.fetch_decision(name)
        if report is None:
            return {"queue": name, "decision": None, "steps": []}
        return {"queue": name, "decision": build_decision(report), "steps": describe_report(report)}

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

    async def _fetch_decisions(self, names: Sequence[str]) -> Decisions:
        try:
            return await self._live.fetch_decisions(names)
        except UnavailableError:
            return {}

    def _build_document(self, queue: KnownQueue, counts: Counts | None, decisions: Decisions) -> dict[str, Any]:
        registration = queue.registration
        return {
            "name": queue.name,
            "namespace": registration.get("namespace"),
            "task_queue": registration.get("name"),
            "broker": registration.get("broker", "default"),
            "scale_only": queue.scale_only,
            **build_figures(self._monitor.get(queue.name)),
            "decision": build_decision(decisions[queue.name]) if queue.name in decisions else None,
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


def build_decision(report: DecisionReport) -> dict[str, Any]:
    """A decision as it is shown. Pure."""
    return {
        "decided_at": datetime.fromtimestamp(report["at"], UTC).isoformat(),
        "replicas": report["replicas"],
        "cause": report["cause"],
        "reason": report["reason"],
        "acting": report["acting"],
        "terms": report["terms"],
    }


def build_worker(beat: Heartbeat) -> dict[str, Any]:
    """A worker as it is shown; an older one may leave out what this release added. Pure."""
    started_at = beat.get("started_at")
    return {
        "name": str(beat.get("host", "")),
        "pool": beat.get("pool"),
        "slots": beat.get("slots", 0),
        "busy": beat.get("busy", 0),
        "consuming": bool(beat.get("consuming")),
        "tasks": list(beat.get("tasks", ())),
        "completed": beat.get("completed", 0),
        "failed": beat.get("failed", 0),
        "started_at": None if started_at is None else datetime.fromtimestamp(started_at, UTC).isoformat(),
        "celery": beat.get("celery"),
        "python": beat.get("python"),
    }
