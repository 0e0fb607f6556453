"""What holds of the scaling rule for whatever history: properties over generated ones."""

import json
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
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


@given(histories(), specs)
def test_every_decision_can_be_told_as_json(history: list[Observation], spec: ScalingSpec) -> None:
    memory = replay(history[:-1], spec)
    report = build_report(decide(history[-1], spec, memory), at=1.0, acting=True)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert all(describe_report(report))
