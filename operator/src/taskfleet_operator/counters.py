"""What heartbeats add up to: finished tasks and run time of a queue, also of workers that are gone; start-up times."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from taskfleet_core.events import Heartbeat
from taskfleet_operator.observed import PodFacts

__all__ = ["Counters"]

STARTUP_MEMORY = 0.3  # weight of the newest start-up
STARTUP_CAP_SECONDS = 300.0  # a mean over mixed starts misleads: an image pull of minutes must not rule the timers


@dataclass
class Counters:
    """Totals of one queue since the operator began to watch it."""

    completed: int = 0
    run_seconds_sum: float = 0.0
    startup_seconds: float | None = None
    _seen: dict[tuple[str, float], tuple[int, float]] = field(default_factory=dict)
    _started: set[str] = field(default_factory=set)

    def add(self, heartbeats: Iterable[Heartbeat]) -> None:
        """Fold in one round of heartbeats; counting a worker twice changes nothing."""
        current = {}
        for beat in heartbeats:
            key = (beat["host"], beat["started_at"])
            completed, seconds = self._seen.get(key, (0, 0.0))
            self.completed += max(0, beat["completed"] - completed)
            self.run_seconds_sum += max(0.0, beat["runtime_seconds_sum"] - seconds)
            current[key] = (beat["completed"], beat["runtime_seconds_sum"])
        # A worker that is silent for a round may come back: it is kept as long as there are few.
        self._seen = {**self._seen, **current} if len(self._seen) < 1000 else current

    def add_startups(self, heartbeats: Iterable[Heartbeat], pods: Iterable[PodFacts]) -> None:
        """Learn how long pods take from creation to their first heartbeat."""
        created = {pod.uid: pod.created_at for pod in pods}
        for beat in heartbeats:
            uid = beat.get("pod_uid", "")
            if uid not in created or uid in self._started:
                continue
            self._started.add(uid)
            started = datetime.fromtimestamp(beat["started_at"], UTC)
            seconds = min(STARTUP_CAP_SECONDS, max(0.1, (started - created[uid]).total_seconds()))
            old = self.startup_seconds
            self.startup_seconds = seconds if old is None else old + STARTUP_MEMORY * (seconds - old)
        self._started &= created.keys()
