"""One trace against several rules: the TaskQueue's own, KEDA with the HPA, and a fixed number of replicas."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from taskfleet.simulating.reading import RecordedTrace
from taskfleet_core.scaling import ScalingSpec
from taskfleet_core.schedules import apply_schedules
from taskfleet_core.simulation import (
    Conditions,
    FixedScaler,
    KedaScaler,
    KedaSettings,
    Run,
    Scaler,
    StartupTimes,
    Summary,
    TaskfleetScaler,
    build_summary,
    simulate,
)
from taskfleet_core.taskqueue import TaskQueue

__all__ = ["OURS", "Outcome", "compare"]

OURS = "taskfleet"
FIXED_LATE_SHARE = 0.01
SEED = 1
UNBOUNDED = 10_000  # the rules keep their own bounds


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rule on the trace."""

    rule: str
    summary: Summary
    run: Run


def compare(recorded: RecordedTrace, queue: TaskQueue, *, startup_seconds: float, fixed: int | None) -> list[Outcome]:
    """Play the trace against each rule. `fixed`: replicas of the fixed pool; None looks for the smallest that keeps
    99 % of the tasks within the target, up to the queue's maximum."""
    trace, scaling = recorded.trace, queue.spec.scaling
    spec = queue.build_scaling_spec()
    low, high = scaling.min_replicas, scaling.max_replicas
    documented = KedaSettings(min_replicas=low, max_replicas=high)
    tuned = KedaSettings.tune(spec.slots_per_replica, min_replicas=low, max_replicas=high)

    def play(name: str, scaler: Scaler, initial: int) -> Outcome:
        conditions = Conditions(
            slots=spec.slots_per_replica,
            startup=StartupTimes(warm_seconds=startup_seconds),
            grace_seconds=spec.grace_seconds,
            max_replicas=UNBOUNDED,
            initial_replicas=initial,
        )
        run = simulate(trace, scaler, conditions, seed=SEED)
        return Outcome(name, build_summary([run], spec.target_wait_seconds), run)

    first = max(low, min(high, trace.count_first_pods(spec.slots_per_replica)))
    size = fixed or _find_fixed(lambda size: play("", FixedScaler(size), size), high)
    return [
        play(OURS, TaskfleetScaler(spec, _build_schedule(recorded.begin, queue, spec)), first),
        play("keda, defaults", KedaScaler(documented, random.Random(SEED)), first),
        play("keda, tuned", KedaScaler(tuned, random.Random(SEED)), first),
        play(f"fixed, {size}", FixedScaler(size), size),
    ]


def _find_fixed(play: Callable[[int], Outcome], most: int) -> int:
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        kept = play(middle).summary.late_share <= FIXED_LATE_SHARE
        low, high = (low, middle) if kept else (middle + 1, high)
    return low


def _build_schedule(begin: datetime | None, queue: TaskQueue, spec: ScalingSpec) -> Callable[[float], ScalingSpec]:
    """The spec at a second of the trace; schedules count only where the trace has times of a calendar."""
    schedules = queue.spec.scaling.schedules
    if begin is None or not schedules:
        return lambda at: spec

    full_minute = begin.replace(second=0, microsecond=0)  # schedules fire at full minutes

    @lru_cache(maxsize=2)
    def get_spec(minute: int) -> ScalingSpec:
        return apply_schedules(spec, schedules, full_minute + timedelta(minutes=minute))

    return lambda at: get_spec(int((at + begin.second) // 60))
