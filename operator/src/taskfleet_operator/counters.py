"""What heartbeats add up to: finished tasks and run time of a queue, also of workers that are gone; start-up times."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median_low

from taskfleet_core.events import Heartbeat
from taskfleet_operator.observed import PodFacts

__all__ = ["Counters"]

STARTUPS_KEPT = 9
STARTUP_MIN_SECONDS, STARTUP_CAP_SECONDS = 0.1, 300.0  # an image pull of minutes must not rule the timers
ENOUGH_COMPLETIONS = 20  # fewer say nothing about rare slow tasks
COMPLETIONS_KEPT = 20_000  # beyond it old ones count half: tasks change


@dataclass
class Counters:
    """Totals of one queue since the operator began to watch it."""

    completed: int = 0
    run_seconds_sum: float = 0.0
    _startups: deque[float] = field(default_factory=lambda: deque(maxlen=STARTUPS_KEPT))
    _recent: int = 0
    _recent_slow: int = 0
    _seen: dict[tuple[str, float], tuple[int, float, int]] = field(default_factory=dict)
    _started: dict[str, int] = field(default_factory=dict)  # pod uid -> restarts of its container when it spoke last

    @property
    def slow_share(self) -> float | None:
        """Share of tasks that ran longer than a third of the grace period; None while that is not known."""
        return self._recent_slow / self._recent if self._recent >= ENOUGH_COMPLETIONS else None

    @property
    def startup_seconds(self) -> float | None:
        """Start-up of a pod, seconds; None before the first. The median of the last ones: a mean of starts of 4 s, and
        some of 80 s on new nodes, is the time of neither."""
        return median_low(self._startups) if self._startups else None

    def add(self, heartbeats: Iterable[Heartbeat]) -> None:
        """Fold in one round of heartbeats; counting a worker twice changes nothing."""
        current = {}
        for beat in heartbeats:
            key = (beat["host"], beat["started_at"])
            completed, seconds, slow = self._seen.get(key, (0, 0.0, 0))
            done = max(0, beat["completed"] - completed)
            self.completed += done
            self.run_seconds_sum += max(0.0, beat["runtime_seconds_sum"] - seconds)
            slow_now = beat.get("slow", beat["completed"])  # a worker that does not tell may have slow ones only
            self._weigh(done, max(0, slow_now - slow))
            current[key] = (beat["completed"], beat["runtime_seconds_sum"], slow_now)
        # A worker that is silent for a round may come back: it is kept as long as there are few.
        self._seen = {**self._seen, **current} if len(self._seen) < 1000 else current

    def add_startups(self, heartbeats: Iterable[Heartbeat], pods: Iterable[PodFacts]) -> None:
        """Learn how long pods take from creation to their first heartbeat, and which pods have spoken."""
        present = {pod.uid: pod for pod in pods}
        for beat in heartbeats:
            pod = present.get(beat.get("pod_uid", ""))
            if pod is None:
                continue
            # A container that was started again tells nothing of how long a new pod takes.
            if pod.uid not in self._started and not pod.restarts:
                started = datetime.fromtimestamp(beat["started_at"], UTC)
                seconds = (started - pod.created_at).total_seconds()
                self._startups.append(min(STARTUP_CAP_SECONDS, max(STARTUP_MIN_SECONDS, seconds)))
            self._started[pod.uid] = pod.restarts
        self._started = {uid: restarts for uid, restarts in self._started.items() if uid in present}

    def find_silent(self, heartbeats: Iterable[Heartbeat], pods: Iterable[PodFacts]) -> frozenset[str]:
        """Pods whose worker spoke and does so no more, although its container has not ended: unknown, not idle."""
        speaking = {beat.get("pod_uid", "") for beat in heartbeats}
        return frozenset(
            pod.uid
            for pod in pods
            if pod.uid not in speaking
            and self._started.get(pod.uid) == pod.restarts
            and pod.waiting_reason is None
            and not pod.is_terminating
        )

    def _weigh(self, done: int, slow: int) -> None:
        self._recent += done
        self._recent_slow += slow
        if self._recent > COMPLETIONS_KEPT:
            self._recent, self._recent_slow = self._recent // 2, self._recent_slow // 2
