"""Decisions of single TaskQueues under a limit of several: what a reconcile has seen, and what is decided."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator.builders import (
    NOW,
    build_deployment,
    build_observed,
    build_pods,
    build_policy,
    build_statistics,
    get_condition,
)

from taskfleet_core.scaling import Cause, Decision, ScalingSpec, Terms
from taskfleet_operator.fleet import FleetLimits
from taskfleet_operator.observed import Plan
from taskfleet_operator.planning import build_plan


def decide(fleet: FleetLimits, name: str, wanted: int, cause: Cause = Cause.BACKLOG, **changes: Any) -> Decision:
    """The decision of one TaskQueue after the limits."""
    acts = changes.pop("acts", True)
    spec = ScalingSpec(pinned_replicas=changes.pop("pin", None), min_replicas=changes.pop("minimum", 0))
    scaling = changes.pop("scaling", {})
    observed = build_observed({"scaling": scaling}, **changes)
    metadata = observed.queue.metadata.model_copy(update={"name": name})
    observed = replace(
        observed,
        queue=observed.queue.model_copy(update={"metadata": metadata}),
        raw={**observed.raw, "metadata": {**observed.raw["metadata"], "name": name}},
    )
    return fleet.limit(observed, Decision(wanted, cause, "because", Terms(), None), spec, acts)


@pytest.fixture
def fleet() -> FleetLimits:
    """Ten pods for namespace `team`."""
    limits = FleetLimits(None, lambda key: None, lambda seconds, call: None, lambda: 1000.0)
    limits.put_policy(build_policy("team/ten", 10))
    return limits


def deployed(count: int) -> dict[str, Any]:
    """A Deployment with its pods."""
    return {"children": {("Deployment", "q-worker"): build_deployment(count)}, "pods": build_pods(count)[0]}


def test_a_limited_decision_says_by_what_and_keeps_the_rules_own_reason(fleet: FleetLimits) -> None:
    got = decide(fleet, "a", 50)
    assert (got.replicas, got.cause) == (10, Cause.FLEET)
    assert got.reason == (
        "TaskQueuePolicy ten with its 10 pods allows 10 of 50 replicas: nobody holds any yet; the rule says: because"
    )


def test_the_condition_names_the_limit(fleet: FleetLimits) -> None:
    seen = build_observed({"scaling": {"minReplicas": 12}})
    plan = build_plan(seen, "injection", NOW, 1000.0, fleet.limit)
    condition = get_condition(plan, "ScalingLimited")
    assert (condition["status"], condition["reason"]) == ("True", "FleetLimit")
    assert plan.scale is not None
    assert plan.scale.replicas == plan.status["desiredReplicas"] == 10


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"acts": False}, id="DryRun, External, paused"),
        pytest.param({"cause": Cause.UNKNOWN}, id="unknown"),
    ],
)
def test_pods_that_nobody_scales_now_count_and_stay(fleet: FleetLimits, changes: dict[str, Any]) -> None:
    assert decide(fleet, "held", 6, **changes, **deployed(6)).replicas == 6
    assert decide(fleet, "a", 50).replicas == 4


def test_a_pin_counts_like_a_minimum_and_is_cut_by_the_limit(fleet: FleetLimits) -> None:
    assert decide(fleet, "pinned", 7, Cause.PINNED, pin=7).replicas == 7
    assert decide(fleet, "a", 50, scaling={"priority": 9}).replicas == 3
    assert decide(fleet, "more", 12, Cause.PINNED, pin=12).replicas == 0  # until the others have given back


def test_pods_that_finish_their_last_task_count_and_those_that_have_ended_do_not(fleet: FleetLimits) -> None:
    pods, _ = build_pods(6)
    leaving = [replace(pod, is_terminating=True) for pod in pods[:3]]
    ended = [replace(pod, is_terminating=True, has_ended=True) for pod in pods[3:]]
    decide(fleet, "old", 0, pods=(*leaving, *ended))
    assert decide(fleet, "a", 50).replicas == 7


def test_a_queue_that_cannot_start_workers_yet_keeps_nobody_waiting(fleet: FleetLimits) -> None:
    decide(fleet, "new", 50, topology_ready=False)
    assert decide(fleet, "a", 50).replicas == 10


def test_busy_pods_finish_before_a_queue_of_higher_priority_gets_their_place(fleet: FleetLimits) -> None:
    """The flood fences what it has to give back, lets it go, and its place is free when the last task is done."""
    pods, idle = build_pods(10)
    busy = tuple({**beat, "busy": 2} for beat in idle)
    flood = {"statistics": build_statistics(500, 20), "heartbeats": busy}

    def plan(**seen: Any) -> Plan:
        return build_plan(build_observed(**flood | seen), "injection", NOW, 1000.0, fleet.limit)

    def want_mail() -> int:
        return decide(fleet, "mail", 4, scaling={"priority": 1}).replicas

    present = {"children": {("Deployment", "q-worker"): build_deployment(10)}, "pods": pods}
    assert plan(**present).scale is None
    assert want_mail() == 0
    fencing = plan(**present)
    assert (len(fencing.fence), fencing.scale) == (4, None)
    stopped = tuple({**beat, "consuming": beat["pod_uid"] not in fencing.fence} for beat in busy)
    leaving = plan(**present, heartbeats=stopped, fenced=frozenset(fencing.fence))
    assert leaving.scale is not None
    assert leaving.scale.replicas == 6
    assert want_mail() == 0
    going = tuple(replace(pod, is_terminating=pod.uid in fencing.fence) for pod in pods)
    deployment = build_deployment(6)
    deployment["metadata"]["resourceVersion"] = "8"
    scaled = {"children": {("Deployment", "q-worker"): deployment}}
    assert plan(**scaled, pods=going, heartbeats=stopped).scale is None
    assert want_mail() == 0  # they still finish what they have
    left = tuple(pod for pod in going if not pod.is_terminating)
    assert plan(**scaled, pods=left, heartbeats=stopped).scale is None
    assert want_mail() == 4
