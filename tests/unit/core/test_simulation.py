"""The simulator: exact where theory is exact, and the peers as their documentation has them."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from taskfleet_core.scaling import Observation, ScalingSpec
from taskfleet_core.simulation import (
    Conditions,
    FixedScaler,
    KedaScaler,
    KedaSettings,
    Run,
    Scaler,
    StartupTimes,
    TaskfleetScaler,
    Trace,
    build_summary,
    get_quantile,
    simulate,
)

CONSTANT = StartupTimes(warm_seconds=4.0, sigma=0.0)


def play(trace: Trace, scaler: Scaler, **conditions: object) -> Run:
    """A run with pods of one slot that all start in 4 s, unless said otherwise."""
    return simulate(trace, scaler, replace(Conditions(slots=1, startup=CONSTANT), **conditions))  # type: ignore[arg-type]


def build_trace(*arrivals: float, run_seconds: float = 1.0, horizon: float | None = None) -> Trace:
    return Trace("t", list(arrivals), [run_seconds] * len(arrivals), arrivals[-1] if horizon is None else horizon)


@pytest.mark.parametrize(("pods", "load"), [(2, 0.7), (20, 0.9)])
def test_fixed_pool_waits_as_erlang_says(pods: int, load: float) -> None:
    chance = random.Random(pods)
    count, mean = 60_000, 2.0
    rate = load * pods / mean
    arrivals, at = [], 0.0
    for _ in range(count):
        at += chance.expovariate(rate)
        arrivals.append(at)
    trace = Trace("mmc", arrivals, [chance.expovariate(1 / mean) for _ in range(count)], at)
    waits = play(trace, FixedScaler(pods), initial_replicas=pods).waits[count // 20 :]
    blocked = 1.0  # Erlang B by recursion, then C
    for servers in range(1, pods + 1):
        blocked = load * pods * blocked / (servers + load * pods * blocked)
    waiting = blocked / (1 - load * (1 - blocked))
    expected = waiting * mean / (pods - load * pods)
    assert sum(waits) / len(waits) == pytest.approx(expected, rel=0.12)
    assert sum(wait > 1e-9 for wait in waits) / len(waits) == pytest.approx(waiting, rel=0.06)


def test_pod_takes_its_start_up_and_is_paid_from_being_asked_for() -> None:
    spec = ScalingSpec(idle_seconds=10)
    run = play(build_trace(5.0, run_seconds=3.0, horizon=60.0), TaskfleetScaler(spec))
    asked, gone = run.timeline
    assert 5.0 <= asked[0] < 6.0
    assert run.waits == [pytest.approx(asked[0] + 4.0 - 5.0)]
    assert 9.0 <= gone[0] - (asked[0] + 4.0 + 3.0) <= 11.0  # seen each second
    assert run.pod_seconds == pytest.approx(gone[0] - asked[0] + 2.0)
    assert (run.starts, run.peak, run.killed) == (1, 1, 0)


class Sawtooth:
    """One pod until a moment, then none until another, then one again."""

    interval_seconds = 1.0

    def decide(self, seen: Observation) -> int:
        return 0 if 10 <= seen.at < 60 else 1


def test_killed_task_runs_again_and_what_it_did_is_lost() -> None:
    run = play(build_trace(0.0, run_seconds=50.0), Sawtooth(), initial_replicas=1, grace_seconds=30.0)
    assert run.killed == 1
    assert 40.0 <= run.lost_seconds <= 41.0
    assert run.waits[0] > 60.0
    assert run.unfinished == 0


def test_old_statistics_are_seen_late() -> None:
    spec = ScalingSpec()
    fresh, old = (
        play(build_trace(31.0), TaskfleetScaler(spec), statistics_seconds=seconds).timeline[0][0] for seconds in (0, 10)
    )
    assert fresh < 32.1
    assert fresh < old <= 42.1


def test_pods_beyond_the_nodes_wait_for_a_node() -> None:
    startup = StartupTimes("node", fits=2, sigma=0.0)
    chance = random.Random(1)
    assert [startup.draw(0.0, pods, chance) > 60 for pods in (1, 2, 3)] == [False, False, True]
    assert startup.draw(10.0, 3, chance) < 60  # the node has come
    assert startup.draw(5000.0, 3, chance) > 60  # and gone


def watch_keda(settings: KedaSettings, depth: Callable[[float], int], seconds: int) -> list[int]:
    """Replicas by second when they follow at once."""
    scaler = KedaScaler(settings, random.Random(1))
    replicas, history = 0, []
    for second in range(seconds):
        seen = Observation(at=float(second), ready=depth(second), unacknowledged=0, replicas=replicas)
        replicas = min(settings.max_replicas, scaler.decide(seen))
        history.append(replicas)
    return history


def get_steps(history: list[int]) -> list[int]:
    """Each new level."""
    return [after for before, after in pairwise([0, *history]) if after != before]


def test_keda_wakes_at_its_poll_and_the_hpa_doubles_from_four() -> None:
    history = watch_keda(KedaSettings(), lambda second: 1000, 200)
    assert get_steps(history) == [1, 4, 8, 16, 32, 50]  # 1000 messages at 20 a pod
    assert history.index(1) <= 30


def test_keda_keeps_five_minutes_and_then_cools_down_for_five_more() -> None:
    history = watch_keda(KedaSettings(), lambda second: 1000 if second < 200 else 0, 1000)
    assert min(history[200:480]) == 50
    assert max(history[520:]) <= 1
    assert history[-1] == 0


def test_keda_tuned_grows_by_four_pods_or_twice_in_fifteen_seconds() -> None:
    history = watch_keda(KedaSettings.tune(1), lambda second: 1000, 90)
    assert get_steps(history) == [1, 5, 10, 20, 40, 80, 100]


def test_same_seed_gives_the_same_run() -> None:
    chance = random.Random(2)
    trace = build_trace(*sorted(chance.random() * 300 for _ in range(300)))
    first, second = (simulate(trace, TaskfleetScaler(ScalingSpec()), Conditions(slots=1), seed=5) for _ in range(2))
    assert (first.waits, first.timeline, first.pod_seconds) == (second.waits, second.timeline, second.pod_seconds)


def test_summary_counts_late_tasks() -> None:
    run = play(build_trace(0.0, 0.0, run_seconds=6.0), FixedScaler(1), initial_replicas=1)
    summary = build_summary([run], target_wait_seconds=5.0)
    assert (summary.late_share, summary.wait_p50_seconds) == (0.5, 3.0)
    assert get_quantile([], 0.5) == 0.0
