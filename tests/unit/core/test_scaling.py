"""The scaling rule as a pure function: tables for single decisions, and what comes of some loads."""

from dataclasses import replace
from itertools import pairwise

import pytest
from tests.unit.core.scaling_play import SPEC, Pool, see

from taskfleet_core.scaling import (
    Cause,
    Memory,
    Observation,
    Pace,
    ScalingSpec,
    build_report,
    decide,
    describe_report,
)


@pytest.mark.parametrize(
    ("observation", "spec", "expected", "cause"),
    [
        pytest.param(see(ready=1), SPEC, 1, Cause.BACKLOG, id="one task wakes one worker"),
        pytest.param(see(ready=None, replicas=3), SPEC, 3, Cause.UNKNOWN, id="unreadable ready holds"),
        pytest.param(see(unacknowledged=None, replicas=3), SPEC, 3, Cause.UNKNOWN, id="unreadable unacked holds"),
        pytest.param(see(ready=None, replicas=30), SPEC, 20, Cause.MAXIMUM, id="a hold obeys the maximum"),
        pytest.param(see(ready=10_000), SPEC, 20, Cause.MAXIMUM, id="the maximum bounds"),
        pytest.param(see(), replace(SPEC, min_replicas=2), 2, Cause.MINIMUM, id="the minimum is kept warm"),
        pytest.param(see(ready=900), replace(SPEC, pinned_replicas=3), 3, Cause.PINNED, id="a pin is exact"),
        pytest.param(see(replicas=9), replace(SPEC, pinned_replicas=0), 0, Cause.PINNED, id="a pin of zero stops"),
        pytest.param(see(ready=None), replace(SPEC, pinned_replicas=2), 2, Cause.PINNED, id="a pin needs no figures"),
        pytest.param(see(ready=95), replace(SPEC, target_queue_depth=10), 10, Cause.DEPTH, id="depth rule rounds up"),
        pytest.param(
            see(ready=50, unacknowledged=45), replace(SPEC, target_queue_depth=10), 10, Cause.DEPTH,
            id="depth rule counts tasks in hand",
        ),
        pytest.param(see(replicas=1), SPEC, 1, Cause.HELD, id="idle, but not for long enough"),
        pytest.param(see(replicas=0), SPEC, 0, Cause.IDLE, id="nothing to do, nothing runs"),
    ],
)  # fmt: skip
def test_first_decision(observation: Observation, spec: ScalingSpec, expected: int, cause: Cause) -> None:
    decision = decide(observation, spec, None)
    assert (decision.replicas, decision.cause) == (expected, cause), decision.reason
    assert decision.reason


def tell_rates(published: list[int]) -> list[float]:
    """The arrivals that decisions a second apart believe; tasks take half a second, and one of them runs."""
    rates, memory = [], None
    for at, count in enumerate(published):
        done = {"completed": count, "run_seconds_sum": count / 2}
        decision = decide(see(at=float(at), published=count, unacknowledged=1, replicas=1, **done), SPEC, memory)
        memory = decision.memory
        rates.append(decision.terms.arrivals_per_second)
    return rates


def test_silence_after_a_crowd_ends_its_rate() -> None:
    rates = tell_rates([0, *[84] * 20])
    assert rates[3] > 2, "a crowd may go on"
    assert rates[20] < 0.2, "nothing came for 19 s: more than 3 in 19 s are unlikely"


def test_a_load_that_has_sunk_by_more_than_chance_is_believed_sooner_than_its_long_average() -> None:
    steady, after = [20 * at for at in range(90)], [1780 + 2 * at for at in range(16)]
    assert tell_rates(steady + after)[-1] < 20 * 0.4


def test_figures_that_are_five_seconds_old_are_no_silence() -> None:
    rates = tell_rates([50 * (at // 5) for at in range(120)])
    assert min(rates[60:]) > 8


def test_idle_queue_goes_to_zero_after_idle_seconds_and_not_before() -> None:
    pool = Pool(replace(SPEC, idle_seconds=30))
    for _ in range(20):
        pool.step(arrivals=4)
    last_task = pool.at
    while pool.replicas:
        pool.step(arrivals=0)
        assert pool.at < last_task + 40
    assert pool.at >= last_task + 30


def test_idle_seconds_shorter_than_the_holds_are_obeyed() -> None:
    pool = Pool(replace(SPEC, idle_seconds=2))
    for _ in range(20):
        pool.step(arrivals=8)
    last_task = pool.at
    while pool.replicas:
        pool.step(arrivals=0)
        assert pool.at <= last_task + 5


def test_idle_time_that_nobody_saw_does_not_count() -> None:
    spec = replace(SPEC, idle_seconds=10)
    memory = decide(see(at=0.0, unacknowledged=1, replicas=1), spec, None).memory
    memory = decide(see(at=100.0, ready=None, replicas=1), spec, memory).memory
    assert decide(see(at=101.0, replicas=1), spec, memory).replicas == 1
    assert decide(see(at=111.0, replicas=1), spec, memory).replicas == 0


@pytest.mark.parametrize("run_seconds", [0.05, 0.5, 4.0])
@pytest.mark.parametrize("arrivals", [1, 7, 40])
def test_constant_load_does_not_flap(run_seconds: float, arrivals: int) -> None:
    pool = Pool(replace(SPEC, max_replicas=100), run_seconds)
    for _ in range(120):
        pool.step(arrivals)
    settled = pool.wanted[60:]
    changes = sum(1 for before, after in pairwise(settled) if before != after)
    assert changes <= 2, settled
    assert pool.ready == 0


def test_burst_is_served_within_the_target_and_released() -> None:
    pool = Pool(replace(SPEC, idle_seconds=20), run_seconds=1.0)
    pool.step(arrivals=60)
    seconds = 0
    while pool.ready:
        pool.step(arrivals=0)
        seconds += 1
    assert seconds <= SPEC.target_wait_seconds + 1
    for _ in range(60):
        pool.step(arrivals=0)
    assert pool.wanted[-1] == 0


def test_busy_workers_stay_when_their_tasks_may_outlive_the_grace_period() -> None:
    spec = replace(SPEC, max_task_seconds=3600, grace_seconds=30)
    seen = see(at=1000.0, unacknowledged=6, replicas=8, ready_replicas=8, idle_replicas=2)
    decision = decide(seen, spec, None)
    assert (decision.replicas, decision.cause) == (6, Cause.BUSY)
    assert decide(seen, replace(spec, grace_seconds=3600), None).replicas < 6


def test_counter_that_starts_again_is_no_negative_arrival() -> None:
    first = decide(see(at=0.0, published=1000), SPEC, None)
    second = decide(see(at=1.0, published=3), SPEC, first.memory)
    assert second.terms.arrivals_per_second == 0.0


def test_arrivals_are_told_from_depth_and_completions_without_a_counter() -> None:
    first = decide(see(at=0.0, ready=5), SPEC, None)
    second = decide(see(at=1.0, ready=10, completed=5), SPEC, first.memory)
    assert second.terms.arrivals_per_second > 0.5


def test_waiting_that_present_workers_will_start_soon_asks_for_none() -> None:
    busy = see(unacknowledged=8, busy_slots=8, replicas=2, ready_replicas=2, startup_seconds=4.0)
    memory = Memory(SPEC, 0.0, None, 1000, 1000.0, 8, completions=100.0, run_seconds=100.0)  # one second each
    assert decide(replace(busy, ready=12, completed=1000), SPEC, memory).replicas == 2  # 8 slots start 12 in 1.5 s
    assert decide(replace(busy, ready=30, completed=1000), SPEC, memory).replicas > 3


def test_rate_rises_at_once_beyond_chance_and_not_within_it() -> None:
    def follow(arrivals: list[int]) -> float:
        memory, published = None, 0
        for second, count in enumerate(arrivals):
            published += count
            decision = decide(see(at=float(second), published=published), SPEC, memory)
            memory = decision.memory
        return decision.terms.arrivals_per_second

    steady = [10] * 120
    assert follow(steady) == pytest.approx(10, rel=0.05)
    assert follow([*steady, 14, 13]) < 10.6
    assert follow([*steady, *[60] * 5]) > 25


def test_pace_upwards_is_counted_from_the_fewest_of_the_period() -> None:
    spec = replace(SPEC, scale_up=Pace(3, 15.0))
    memory, replicas, wanted = None, 0, []
    for second in range(31):
        decision = decide(see(at=float(second), ready=10_000, replicas=replicas), spec, memory)
        memory, replicas = decision.memory, decision.replicas
        wanted.append(replicas)
    assert wanted[0] == wanted[14] == 3
    assert max(wanted) == wanted[-1] <= 9
    assert decision.cause is Cause.PACED
    assert "scaleUp allows 3 in 15 s" in decision.reason


def test_pace_downwards_is_counted_from_the_most_of_the_period() -> None:
    spec = replace(SPEC, idle_seconds=0, scale_down=Pace(2, 10.0))
    memory, replicas, wanted = None, 9, []
    for second in range(60):
        decision = decide(see(at=float(second), replicas=replicas, ready_replicas=replicas), spec, memory)
        memory, replicas = decision.memory, decision.replicas
        wanted.append(replicas)
    assert wanted[0] == wanted[9] == 7
    assert wanted[-1] == 0
    assert wanted.index(0) >= 40


def test_bounds_overrule_the_pace() -> None:
    spec = replace(SPEC, min_replicas=8, max_replicas=12, scale_up=Pace(1, 60.0), scale_down=Pace(1, 60.0))
    assert decide(see(), spec, None).replicas == 8
    assert decide(see(replicas=40, ready=9000), spec, None).replicas == 12


def test_report_tells_the_way_to_the_decision() -> None:
    seen = see(ready=95, unacknowledged=8, busy_slots=8, replicas=2, ready_replicas=2, startup_seconds=4.0)
    decision = decide(seen, SPEC, None)
    steps = describe_report(build_report(decision, at=1.0, acting=False))
    assert steps[0].startswith("a task runs 2 s on average, 0 arrive each second, a worker takes 4 s to start")
    assert [step.split(":")[0] for step in steps[1:4]] == ["load", "backlog", "safety"]
    assert f"{decision.replicas} workers: {decision.reason}" in steps
    assert steps[-1] == "reported only: nothing is changed"


def test_report_of_what_no_term_decided_is_its_reason() -> None:
    for seen, spec in ((see(ready=None, replicas=1), SPEC), (see(ready=9), replace(SPEC, pinned_replicas=1))):
        decision = decide(seen, spec, None)
        assert describe_report(build_report(decision, at=1.0, acting=True)) == [f"1 worker: {decision.reason}"]
