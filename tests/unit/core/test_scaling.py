"""The scaling rule as a pure function: tables for single decisions, properties over generated histories."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet_core.scaling import (
    Cause,
    Decision,
    Memory,
    Observation,
    Pace,
    ScalingSpec,
    build_report,
    decide,
    describe_report,
)

SPEC = ScalingSpec(max_replicas=20, slots_per_replica=4, idle_seconds=60)


def see(**fields: Any) -> Observation:
    """An observation of an idle queue without workers, but for `fields`."""
    return Observation(**({"at": 0.0, "ready": 0, "unacknowledged": 0, "replicas": 0} | fields))


class Pool:
    """A queue and its workers in steps of a second: workers start after two, tasks take `run_seconds` each."""

    def __init__(self, spec: ScalingSpec, run_seconds: float = 0.5) -> None:
        self.spec, self.run_seconds = spec, run_seconds
        self.at = 0.0
        self.published = self.completed = self.ready = 0
        self.replicas: list[float] = []  # when each one became wanted
        self.memory: Memory | None = None
        self.wanted: list[int] = []
        self.running: list[float] = []  # end of each running task

    def step(self, arrivals: int) -> Decision:
        """Let a second pass and decide."""
        self.at += 1.0
        self.published += arrivals
        self.ready += arrivals
        live = sum(1 for wanted_at in self.replicas if self.at - wanted_at >= 2)
        part_seconds = 0.05
        for part in range(20):
            now = self.at - 1 + part * part_seconds
            finished = [end for end in self.running if end <= now + 1e-6]
            self.completed += len(finished)
            self.running = [end for end in self.running if end > now + 1e-6]
            free = max(0, live * self.spec.slots_per_replica - len(self.running))
            begun = min(free, self.ready)
            self.ready -= begun
            self.running += [now + self.run_seconds] * begun
        decision = decide(self.observe(live), self.spec, self.memory)
        self.memory = decision.memory
        change = decision.replicas - len(self.replicas)
        self.replicas = self.replicas + [self.at] * change if change > 0 else self.replicas[: decision.replicas]
        self.wanted.append(decision.replicas)
        return decision

    def observe(self, live: int) -> Observation:
        """What broker and workers tell."""
        busy = -(-len(self.running) // self.spec.slots_per_replica)
        return Observation(
            at=self.at,
            ready=self.ready,
            unacknowledged=len(self.running),
            replicas=len(self.replicas),
            ready_replicas=live,
            idle_replicas=max(0, live - busy),
            published=self.published,
            completed=self.completed,
            run_seconds_sum=self.completed * self.run_seconds,
            startup_seconds=2.0,
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


counts = st.integers(min_value=0, max_value=5000)
paces = st.none() | st.builds(Pace, st.integers(1, 10), st.floats(1, 300))
specs = st.builds(
    ScalingSpec,
    min_replicas=st.integers(0, 5),
    max_replicas=st.integers(5, 40),
    target_wait_seconds=st.floats(0.1, 600),
    target_queue_depth=st.none() | st.integers(1, 100),
    idle_seconds=st.floats(0, 600),
    slots_per_replica=st.integers(1, 32),
    max_task_seconds=st.just(3600.0),
    grace_seconds=st.sampled_from([0.0, 30.0, 3600.0]),
    scale_up=paces,
    scale_down=paces,
)


@st.composite
def histories(draw: st.DrawFn) -> list[Observation]:
    """Observations of one queue, with gaps, resets, outages and any number of replicas."""
    at = published = completed = 0.0
    seen = []
    for _ in range(draw(st.integers(1, 8))):
        at += draw(st.floats(0, 400))
        published = draw(st.sampled_from([published, 0])) + draw(counts)
        completed += draw(counts)
        replicas = draw(st.integers(0, 60))
        ready_replicas = draw(st.integers(0, replicas))
        seen.append(
            Observation(
                at=at,
                ready=draw(st.none() | counts),
                unacknowledged=draw(st.none() | counts),
                replicas=replicas,
                ready_replicas=ready_replicas,
                idle_replicas=draw(st.none() | st.integers(0, ready_replicas)),
                busy_slots=draw(st.none() | counts),
                published=draw(st.none() | st.just(int(published))),
                completed=int(completed),
                run_seconds_sum=completed * draw(st.floats(0, 100)),
                slow_share=draw(st.none() | st.floats(0, 1)),
                startup_seconds=draw(st.none() | st.floats(0.01, 300)),
            )
        )
    return seen


def replay(history: list[Observation], spec: ScalingSpec) -> Memory | None:
    """What a history leaves in memory."""
    memory = None
    for observation in history:
        memory = decide(observation, spec, memory).memory
    return memory


@given(histories(), specs)
def test_replicas_are_always_within_the_bounds(history: list[Observation], spec: ScalingSpec) -> None:
    memory = None
    for observation in history:
        decision = decide(observation, spec, memory)
        assert spec.min_replicas <= decision.replicas <= spec.max_replicas
        memory = decision.memory


@given(histories(), specs)
def test_unknown_holds_after_any_history(history: list[Observation], spec: ScalingSpec) -> None:
    memory = replay(history, spec)
    blind = replace(history[-1], ready=None)
    expected = min(max(blind.replicas, spec.min_replicas), spec.max_replicas)
    assert decide(blind, spec, memory).replicas == expected


@given(histories(), specs, counts, counts)
def test_more_waiting_tasks_never_mean_fewer_workers(
    history: list[Observation], spec: ScalingSpec, ready: int, more: int
) -> None:
    memory = replay(history[:-1], spec)
    last = replace(history[-1], unacknowledged=3, ready=ready)
    assert decide(replace(last, ready=ready + more), spec, memory).replicas >= decide(last, spec, memory).replicas


@given(histories(), specs, st.integers(0, 5), st.integers(5, 40), st.none() | st.integers(0, 60))
def test_new_bounds_and_pins_act_at_once(
    history: list[Observation], spec: ScalingSpec, low: int, high: int, pin: int | None
) -> None:
    memory = replay(history, spec)
    changed = replace(spec, min_replicas=low, max_replicas=high, pinned_replicas=pin)
    replicas = decide(replace(history[-1], at=history[-1].at + 1), changed, memory).replicas
    assert replicas == pin if pin is not None else low <= replicas <= high


@given(histories(), specs)
def test_long_idle_queue_is_at_its_minimum(history: list[Observation], spec: ScalingSpec) -> None:
    spec = replace(spec, scale_down=None)
    memory = replay(history, spec)
    at, replicas = history[-1].at, history[-1].replicas
    for _ in range(4):
        at += 300
        decision = decide(see(at=at, replicas=replicas, completed=10**9), spec, memory)
        memory, replicas = decision.memory, decision.replicas
    assert replicas == spec.min_replicas


@given(histories(), specs)
def test_same_inputs_give_the_same_decision(history: list[Observation], spec: ScalingSpec) -> None:
    memory = replay(history[:-1], spec)
    assert decide(history[-1], spec, memory) == decide(history[-1], spec, memory)


@given(histories(), specs, counts)
def test_waiting_task_always_has_a_worker(history: list[Observation], spec: ScalingSpec, unacknowledged: int) -> None:
    memory = replay(history[:-1], spec)
    assert decide(replace(history[-1], ready=1, unacknowledged=unacknowledged), spec, memory).replicas >= 1


@given(histories(), specs)
def test_cause_and_terms_agree_with_the_replicas(history: list[Observation], spec: ScalingSpec) -> None:
    memory = replay(history[:-1], spec)
    seen = history[-1]
    decision = decide(seen, spec, memory)
    terms, replicas = decision.terms, decision.replicas
    agrees = {
        Cause.UNKNOWN: replicas == seen.replicas,
        Cause.MINIMUM: replicas == spec.min_replicas,
        Cause.MAXIMUM: replicas == spec.max_replicas,
        Cause.IDLE: replicas == 0 == terms.held_replicas,
        Cause.HELD: terms.need_replicas <= replicas == (seen.replicas if terms.held_replicas != replicas else replicas),
        Cause.BUSY: terms.held_replicas < replicas <= seen.replicas,
        Cause.PACED: replicas != terms.held_replicas,
        Cause.BACKLOG: replicas == terms.held_replicas and terms.backlog_slots > terms.load_slots,
        Cause.LOAD: replicas == terms.held_replicas,
        Cause.DEPTH: replicas == terms.held_replicas and spec.target_queue_depth is not None,
    }
    assert agrees[decision.cause], decision
    assert decision.reason
    if spec.target_queue_depth is None and decision.cause is not Cause.UNKNOWN and terms.need_replicas > 1:
        needed = terms.load_slots + terms.backlog_slots + terms.safety_slots
        assert needed / spec.slots_per_replica <= terms.need_replicas + 0.05


@given(st.integers(1, 30), st.sampled_from([0.2, 1.0, 6.0]), st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_any_constant_load_settles(arrivals: int, run_seconds: float, slots: int) -> None:
    pool = Pool(replace(SPEC, max_replicas=500, slots_per_replica=slots), run_seconds)
    for _ in range(100):
        pool.step(arrivals)
    settled = pool.wanted[60:]
    assert max(settled) - min(settled) <= max(1, round(0.1 * max(settled))), settled
    assert sum(before != after for before, after in pairwise(settled)) <= 4, settled
    assert pool.ready * run_seconds <= len(pool.replicas) * slots * SPEC.target_wait_seconds / 2


@given(st.lists(st.integers(0, 40), min_size=5, max_size=40), st.floats(0, 20), st.sampled_from([0.3, 2.0]))
@settings(max_examples=25, deadline=None)
def test_no_worker_stays_on_an_empty_queue_past_idle_seconds(
    arrivals: list[int], idle_seconds: float, run_seconds: float
) -> None:
    pool = Pool(replace(SPEC, idle_seconds=idle_seconds), run_seconds)
    for count in arrivals:
        pool.step(count)
    last_task = pool.at
    while pool.replicas:
        pool.step(0)
        if pool.ready or pool.running:
            last_task = pool.at
        assert pool.at <= last_task + idle_seconds + 2


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


@given(histories(), specs)
def test_every_decision_can_be_told_as_json(history: list[Observation], spec: ScalingSpec) -> None:
    memory = replay(history[:-1], spec)
    report = build_report(decide(history[-1], spec, memory), at=1.0, acting=True)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert all(describe_report(report))
