"""The rules that a simulation can ask. Each object serves one run."""

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from taskfleet_core.scaling import Memory, Observation, ScalingSpec, decide

__all__ = ["DepthScaler", "FixedScaler", "KedaScaler", "KedaSettings", "TaskfleetScaler", "ThroughputScaler"]


class TaskfleetScaler:
    """The real rule with its memory. `get_spec`, if given, says what holds at a moment (schedules)."""

    def __init__(self, spec: ScalingSpec, get_spec: Callable[[float], ScalingSpec] | None = None) -> None:
        self.interval_seconds = spec.interval_seconds
        self._get_spec = get_spec or (lambda at: spec)
        self._memory: Memory | None = None

    def decide(self, seen: Observation) -> int:
        """See `Scaler.decide`."""
        decision = decide(seen, self._get_spec(seen.at), self._memory)
        self._memory = decision.memory
        return decision.replicas


class FixedScaler:
    """Always the same number."""

    interval_seconds = 30.0

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def decide(self, seen: Observation) -> int:
        """See `Scaler.decide`."""
        return self._replicas


class DepthScaler:
    """Messages by slots, rounded up, every two seconds: no history, no limits."""

    interval_seconds = 2.0

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def decide(self, seen: Observation) -> int:
        """See `Scaler.decide`."""
        return math.ceil(_count_messages(seen) / self._slots)


@dataclass(frozen=True, slots=True)
class KedaSettings:
    """A ScaledObject with one RabbitMQ trigger and the HPA that KEDA makes of it; the defaults are the documented ones.

    Given at all, `behavior` (in `advanced.horizontalPodAutoscalerConfig`) brings the scale-up policies of the API's
    defaults: four pods or 100 % in 15 s.
    """

    target: float = 20.0  # messages per pod (`value`)
    polling_seconds: float = 30.0
    cooldown_seconds: float = 300.0
    window_seconds: float = 300.0  # scale-down stabilization
    behavior: bool = False
    ready_only: bool = False  # protocol amqp; http counts unacknowledged messages too
    min_replicas: int = 0
    max_replicas: int = 100

    @classmethod
    def tune(cls, slots: int, *, min_replicas: int = 0, max_replicas: int = 100) -> "KedaSettings":
        """Tuned for speed: a poll each second, a minute of memory, one message per slot."""
        return cls(
            target=slots,
            polling_seconds=1.0,
            cooldown_seconds=60.0,
            window_seconds=60.0,
            behavior=True,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
        )


HPA_SYNC_SECONDS = 15.0
HPA_TOLERANCE = 0.1
HPA_POLICY_SECONDS = 15.0
HPA_POLICY_PODS = 4


class KedaScaler:
    """KEDA's loop, which moves between zero and one, and the HPA's, which does the rest; each with its own phase."""

    interval_seconds = 1.0

    def __init__(self, settings: KedaSettings, phases: random.Random) -> None:
        self._settings = settings
        self._keda_phase, self._hpa_phase = phases.random(), phases.random()
        self._next_keda: float | None = None
        self._next_hpa = 0.0
        self._active_at: float | None = None
        self._recommendations: deque[tuple[float, int]] = deque()
        self._recommended = False
        self._changes: deque[tuple[float, int]] = deque()

    def decide(self, seen: Observation) -> int:
        """See `Scaler.decide`."""
        settings = self._settings
        if self._next_keda is None:
            self._next_keda = seen.at + self._keda_phase * settings.polling_seconds
            self._next_hpa = seen.at + self._hpa_phase * HPA_SYNC_SECONDS
            self._active_at = seen.at if seen.replicas else None
        metric = (seen.ready or 0) if settings.ready_only else _count_messages(seen)
        if seen.at >= self._next_keda:
            self._next_keda += settings.polling_seconds
            switched = self._switch(seen, metric)
            if switched is not None:
                return switched
        if seen.at >= self._next_hpa:
            self._next_hpa += HPA_SYNC_SECONDS
            if seen.replicas:
                return self._sync(seen, metric)
        return seen.replicas

    def _switch(self, seen: Observation, metric: int) -> int | None:
        """KEDA's scale loop; None leaves the replicas to the HPA."""
        settings = self._settings
        if metric > 0:
            self._active_at = seen.at
            return max(1, settings.min_replicas) if seen.replicas == 0 else None
        cooled = self._active_at is None or self._active_at + settings.cooldown_seconds < seen.at
        return 0 if cooled and seen.replicas and not settings.min_replicas else None

    def _sync(self, seen: Observation, metric: int) -> int:
        """One sync of the HPA with an External metric of type AverageValue."""
        settings, replicas = self._settings, seen.replicas
        usage = metric / (settings.target * replicas)
        wanted = replicas if abs(1.0 - usage) <= HPA_TOLERANCE else math.ceil(metric / settings.target)
        recent = self._recommendations
        while recent and recent[0][0] <= seen.at - settings.window_seconds:
            recent.popleft()
        if not self._recommended:
            self._recommended = True
            recent.append((seen.at, replicas))
        stable = max(wanted, *(value for _, value in recent)) if recent else wanted
        recent.append((seen.at, wanted))
        low = max(1, settings.min_replicas)
        if not settings.behavior:
            return max(low, min(stable, settings.max_replicas, max(2 * replicas, 4)))
        return self._apply_policies(seen, low, wanted, stable)

    def _apply_policies(self, seen: Observation, low: int, wanted: int, stable: int) -> int:
        replicas, changes = seen.replicas, self._changes
        while changes and changes[0][0] <= seen.at - HPA_POLICY_SECONDS:
            changes.popleft()
        before = replicas - sum(change for _, change in changes)
        if wanted > replicas:
            stable = min(stable, max(replicas, before + HPA_POLICY_PODS, 2 * before))
        stable = max(low, min(self._settings.max_replicas, stable))
        if stable != replicas:
            changes.append((seen.at, stable - replicas))
        return stable


class ThroughputScaler:
    """As DS2 and Flink's operator do: measured capacity per pod, a target utilization and a time to catch up.

    Within the utilization band, and within a window after growing, it does not shrink.
    """

    interval_seconds = 10.0

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._utilization, self._band = 0.7, 0.3
        self._window_seconds, self._catch_up_seconds = 60.0, 30.0
        self._seen: deque[Observation] = deque()
        self._run_seconds: float | None = None
        self._grown_at = -math.inf

    def decide(self, seen: Observation) -> int:
        """See `Scaler.decide`."""
        first = self._remember(seen)
        depth = _count_messages(seen)
        if (depth and not seen.replicas) or self._run_seconds is None:
            return max(seen.replicas, 1 if depth else 0)
        arrived = (seen.published or 0) - (first.published or 0)
        if not depth and not arrived:
            return 0
        span = seen.at - first.at
        rate = arrived / span if span else 0.0
        capacity = self._slots / self._run_seconds * self._utilization
        needed = (rate + (seen.ready or 0) / max(self._catch_up_seconds, self._run_seconds)) / capacity
        used = needed * self._utilization / max(1, seen.replicas)
        wanted = max(1, math.ceil(needed - 1e-9))
        inside = self._utilization - self._band <= used <= self._utilization + self._band
        if wanted <= seen.replicas and inside:
            return seen.replicas
        if wanted < seen.replicas and seen.at - self._grown_at < self._window_seconds:
            return seen.replicas
        if wanted > seen.replicas:
            self._grown_at = seen.at
        return wanted

    def _remember(self, seen: Observation) -> Observation:
        """Learn the run time; the observation at the start of the window."""
        self._seen.append(seen)
        span = max(self._window_seconds, self._run_seconds or 0.0)
        while len(self._seen) > 2 and self._seen[1].at <= seen.at - span:
            self._seen.popleft()
        first = self._seen[0]
        if seen.completed > first.completed:
            self._run_seconds = (seen.run_seconds_sum - first.run_seconds_sum) / (seen.completed - first.completed)
        return first


def _count_messages(seen: Observation) -> int:
    return (seen.ready or 0) + (seen.unacknowledged or 0)
