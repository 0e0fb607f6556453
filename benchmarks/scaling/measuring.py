"""Runs of every rule on every trace, as rows of figures."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import Pool

from benchmarks.scaling.oracle import plan_pod_seconds
from benchmarks.scaling.traces import Case
from taskfleet_core.scaling import Observation, ScalingSpec
from taskfleet_core.simulation import (
    Conditions,
    DepthScaler,
    FixedScaler,
    KedaScaler,
    KedaSettings,
    Scaler,
    StartupProfile,
    StartupTimes,
    Summary,
    TaskfleetScaler,
    ThroughputScaler,
    build_summary,
    simulate,
)

__all__ = ["OURS", "RULES", "Row", "World", "measure"]

TARGET_WAIT_SECONDS = 5.0
GRACE_SECONDS = 30.0
MAX_REPLICAS = 100
SEED = 17
OURS = "Taskfleet"
FIXED = "fixed, smallest with 1 % late"
BEST_KEDA = "KEDA, best target in hindsight"
FLOOR = "start-up bound"
KEDA_TARGETS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)  # messages per slot
# Mean start-up that the oracle plans with; where nodes must come, it is the warm one, which nobody can beat.
ORACLE_STARTUP_SECONDS = {"warm": 4.13, "cold": 20.6, "node": 4.13}

Factory = Callable[[Case, int], Scaler]  # the number is the run's seed


@dataclass(frozen=True)
class World:
    """What differs between two tables."""

    startup: StartupProfile = "warm"
    statistics_seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """One rule on one trace."""

    trace: str
    rule: str
    summary: Summary
    cost: float  # pod-seconds by the oracle's


class FloorScaler:
    """A slot for every message, ten times a second: no rule that cannot foresee keeps more tasks in time."""

    interval_seconds = 0.1

    def decide(self, seen: Observation) -> int:
        """See `Scaler.decide`."""
        messages = (seen.ready or 0) + (seen.unacknowledged or 0)
        return max(seen.replicas, messages) if messages else 0


def build_spec(case: Case) -> ScalingSpec:
    """A TaskQueue with defaults but for the maximum and the grace period."""
    return ScalingSpec(
        max_replicas=MAX_REPLICAS,
        target_wait_seconds=TARGET_WAIT_SECONDS,
        slots_per_replica=case.slots,
        grace_seconds=GRACE_SECONDS,
    )


def build_keda(settings: KedaSettings, seed: int) -> KedaScaler:
    """KEDA with phases of its own in each run."""
    return KedaScaler(settings, random.Random(seed * 7919 + 13))


def _build_case_keda(settings: KedaSettings, case: Case, seed: int) -> KedaScaler:
    return build_keda(settings, seed)


RULES: dict[str, Factory] = {
    "KEDA, documented defaults": lambda case, seed: build_keda(KedaSettings(), seed),
    "KEDA, one message a slot": lambda case, seed: build_keda(KedaSettings(target=case.slots), seed),
    "KEDA, 1 s polling, 60 s window": lambda case, seed: build_keda(KedaSettings.tune(case.slots), seed),
    "depth by slots, every 2 s": lambda case, seed: DepthScaler(case.slots),
    "as DS2": lambda case, seed: ThroughputScaler(case.slots),
    OURS: lambda case, seed: TaskfleetScaler(build_spec(case)),
}


def run_rule(case: Case, world: World, factory: Factory, *, initial: int | None = None, rounds: int = 0) -> Summary:
    """One rule on one trace, all rounds pooled."""
    conditions = Conditions(
        slots=case.slots,
        grace_seconds=GRACE_SECONDS,
        max_replicas=MAX_REPLICAS,
        statistics_seconds=world.statistics_seconds,
        initial_replicas=case.trace.count_first_pods(case.slots) if initial is None else initial,
    )
    runs = [
        simulate(
            case.trace,
            factory(case, seed),
            replace(conditions, startup=StartupTimes(world.startup)),
            seed=seed,
        )
        for seed in range(SEED, SEED + (rounds or case.rounds))
    ]
    return build_summary(runs, TARGET_WAIT_SECONDS)


def run_fixed(case: Case, world: World) -> Summary:
    """The smallest pool, always there, with at most 1 % of the tasks late."""

    def run(pods: int) -> Summary:
        return run_rule(case, world, lambda case, seed: FixedScaler(pods), initial=pods, rounds=1)

    low, high = 1, MAX_REPLICAS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if run(middle).late_share <= 0.01 else (middle + 1, high)
    return run(low)


def run_best_keda(case: Case, world: World, oracle: float) -> Summary:
    """Documented defaults with the target that suits this trace best, known only afterwards."""
    settings = [KedaSettings(target=share * case.slots) for share in KEDA_TARGETS]
    tried = [run_rule(case, world, partial(_build_case_keda, each)) for each in settings]
    return min(tried, key=lambda summary: get_score(summary, oracle))


def get_score(summary: Summary, oracle: float) -> float:
    """Cost, and one more for every 10 % of tasks that come late."""
    return summary.pod_seconds / oracle + 10.0 * summary.late_share


def measure_case(case: Case, world: World, rules: Sequence[str]) -> list[Row]:
    """All chosen rules on one trace."""
    startup = ORACLE_STARTUP_SECONDS[world.startup]
    oracle = plan_pod_seconds(case.trace, case.slots, TARGET_WAIT_SECONDS, startup)
    rows = []
    for rule in rules:
        if rule == FIXED:
            summary = run_fixed(case, world)
        elif rule == BEST_KEDA:
            summary = run_best_keda(case, world, oracle)
        elif rule == FLOOR:
            summary = run_rule(case, world, lambda case, seed: FloorScaler())
        else:
            summary = run_rule(case, world, RULES[rule])
        rows.append(Row(case.name, rule, summary, summary.pod_seconds / oracle))
    return rows


def measure(cases: Sequence[Case], world: World, rules: Sequence[str], processes: int = 2) -> list[Row]:
    """Everything of one table, the largest traces first."""
    ordered = sorted(cases, key=lambda case: -len(case.trace.arrivals) * case.rounds)
    with Pool(processes) as pool:
        parts = pool.map(partial(_measure_one, world=world, rules=tuple(rules)), ordered, chunksize=1)
    rank = {case.name: number for number, case in enumerate(cases)}
    return sorted((row for part in parts for row in part), key=lambda row: rank[row.trace])


def _measure_one(case: Case, world: World, rules: Sequence[str]) -> list[Row]:
    return measure_case(case, world, rules)
