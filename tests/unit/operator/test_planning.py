"""From what was observed to what is written."""

from dataclasses import replace

import pytest
from tests.unit.operator.builders import (
    NOW,
    build_deployment,
    build_observed,
    build_pods,
    build_statistics,
    get_condition,
    plan,
)

from taskfleet_core.statistics import QueueStatistics
from taskfleet_operator.observed import Credentials, PodFacts
from taskfleet_operator.observing import build_pod_facts


def test_a_waiting_task_scales_a_sleeping_queue_up():
    """The Deployment is scaled from the version that was seen."""
    result = plan(build_observed(statistics=build_statistics(5)))
    assert result.scale.replicas >= 1
    assert result.scale.resource_version == "7"
    assert result.status["desiredReplicas"] == result.scale.replicas
    assert [event.reason for event in result.events] == ["ScaledUp"]


def test_unreadable_statistics_hold_the_replicas_and_say_so():
    """Unknown is not zero."""
    pods, beats = build_pods(3)
    deployed = {("Deployment", "q-worker"): build_deployment(3)}
    seen = build_observed(
        children=deployed, pods=pods, heartbeats=beats, statistics=None, statistics_error="connection refused"
    )
    result = plan(seen)
    assert result.scale is None
    assert result.status["desiredReplicas"] == 3
    condition = get_condition(result, "MetricsAvailable")
    assert (condition["status"], condition["reason"]) == ("False", "StatisticsUnreadable")
    assert "connection refused" in condition["message"]


@pytest.mark.parametrize(
    ("spec", "annotations", "reason"),
    [
        pytest.param({"scaling": {"mode": "DryRun"}}, {}, "DryRun", id="DryRun"),
        pytest.param({"scaling": {"mode": "External"}}, {}, "External", id="External"),
        pytest.param({}, {"taskfleet.dev/paused": "true"}, "Paused", id="paused"),
    ],
)
def test_modes_that_change_nothing_still_report(spec, annotations, reason):
    """The decision is in the status; the Deployment stays."""
    result = plan(build_observed(spec, annotations=annotations, statistics=build_statistics(50)))
    assert result.scale is None
    assert result.status["desiredReplicas"] >= 1
    condition = get_condition(result, "ScalingActive")
    assert (condition["status"], condition["reason"]) == ("False", reason)


def test_a_pin_sets_the_replicas_whatever_the_queue_holds():
    """kubectl scale; the condition says how to resume."""
    result = plan(build_observed({"scaling": {"replicas": 3}}))
    assert result.scale.replicas == 3
    assert "replicas" in get_condition(result, "ScalingActive")["message"]


def test_a_scale_in_fences_first_and_scales_when_the_fence_holds():
    """Two reconciles: the first fences, the second, told by heartbeat, removes."""
    pods, beats = build_pods(2)
    deployed = {("Deployment", "q-worker"): build_deployment(2)}
    pinned = build_observed({"scaling": {"replicas": 1}}, children=deployed, pods=pods, heartbeats=beats)
    first = plan(pinned)
    assert first.scale is None
    assert len(first.fence) == 1
    (victim,) = first.fence
    told = tuple({**beat, "consuming": beat["pod_uid"] != victim} for beat in beats)
    second = plan(replace(pinned, heartbeats=told, fenced=frozenset(first.fence)))
    assert second.scale.replicas == 1
    assert second.scale.costs == {victim: -1000}


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        pytest.param({}, "about to leave", id="they finish their tasks"),
        pytest.param({"heartbeats": None}, "heartbeats cannot be read", id="no heartbeats"),
        pytest.param({"heartbeats": (), "silent": frozenset({"p0", "p1"})}, "silent", id="silent workers"),
    ],
)
def test_why_pods_that_are_too_many_are_still_there_is_told(changes, note):
    """Beside what the rule decided."""
    pods, beats = build_pods(2)
    busy = tuple({**beat, "busy": 1} for beat in beats)
    worker = {"gracePeriodSeconds": 10, "maxTaskSeconds": 600}
    deployed = {("Deployment", "q-worker"): build_deployment(2)}
    seen = {"children": deployed, "pods": pods, "heartbeats": busy, "statistics": build_statistics(0, 2), **changes}
    result = plan(build_observed({"worker": worker, "scaling": {"maxReplicas": 1}}, **seen))
    assert result.scale is None
    condition = get_condition(result, "ScalingActive")
    assert (condition["status"], note in condition["message"]) == ("True", True), condition


def test_nobody_leaves_while_the_store_is_unreadable():
    """Who is busy cannot be known."""
    pods, _ = build_pods(2)
    deployed = {("Deployment", "q-worker"): build_deployment(2)}
    result = plan(build_observed({"scaling": {"replicas": 1}}, children=deployed, pods=pods, heartbeats=None))
    assert result.scale is None
    assert result.fence == ()
    assert get_condition(result, "MetricsAvailable")["reason"] == "Partial"


def test_new_work_lifts_the_fences():
    """Scaling up again takes back what a scale-in began."""
    pods, beats = build_pods(2)
    deployed = {("Deployment", "q-worker"): build_deployment(2)}
    seen = build_observed(
        children=deployed, pods=pods, heartbeats=beats, fenced=frozenset({"p0"}), statistics=build_statistics(500)
    )
    assert plan(seen).unfence == ("p0",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"conflict_with": "team/older"}, "QueueConflict", id="conflict"),
        pytest.param(
            {"credentials": None, "credentials_error": "Secret x does not exist: create it"},
            "BrokerSecretUnreadable",
            id="secret",
        ),
    ],
)
def test_what_may_not_act_writes_no_child_and_says_the_fix(changes, reason):
    """Only the status."""
    result = plan(build_observed(**changes))
    assert result.apply == ()
    assert result.scale is None
    condition = get_condition(result, "Ready")
    assert (condition["status"], condition["reason"]) == ("False", reason)
    assert ":" in condition["message"]


@pytest.mark.parametrize(
    ("wanted", "pods", "failure", "status", "reason", "words"),
    [
        pytest.param(0, 0, None, "True", "NoWorkersNeeded", "no worker is wanted", id="asleep"),
        pytest.param(2, 0, None, "Unknown", "WorkersStarting", "none exists yet", id="about to come"),
        pytest.param(2, 0, "exceeded quota: q", "False", "WorkersRefused", "exceeded quota: q: raise", id="by a quota"),
        pytest.param(2, 1, "exceeded quota: q", "True", "WorkersRunning", "no further pod: exceeded", id="partly"),
    ],
)
def test_pods_that_kubernetes_does_not_make_are_no_sleep(wanted, pods, failure, status, reason, words):
    deployment = build_deployment(wanted)
    if failure:
        condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure}
        deployment["status"] = {"conditions": [condition]}
    alive, beats = build_pods(pods)
    observed = build_observed(
        statistics=build_statistics(0), children={("Deployment", "q-worker"): deployment}, pods=alive, heartbeats=beats
    )
    condition = get_condition(plan(observed), "WorkersHealthy")
    assert (condition["status"], condition["reason"]) == (status, reason)
    assert words in condition["message"]


def test_a_pod_that_no_node_takes_is_told_in_the_words_of_the_scheduler():
    words = "0/3 nodes are available: 3 Insufficient cpu."
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    metadata = {"name": "p", "uid": "p", "creationTimestamp": "2026-01-01T00:00:00Z"}
    pod = build_pod_facts({"metadata": metadata, "status": {"conditions": [unscheduled]}})
    children = {("Deployment", "q-worker"): build_deployment(1)}
    condition = get_condition(plan(build_observed(pods=(pod,), children=children)), "WorkersHealthy")
    assert condition["reason"] == "WorkersStarting"
    assert condition["message"] == f"1 workers are starting; no node takes a pod: {words}"


def test_a_pull_failure_is_a_condition_with_the_fix():
    """kubectl describe tells what to do."""
    pod = PodFacts("p", "p", NOW, False, False, waiting_reason="ErrImageNeverPull", waiting_message="no image app:1")
    condition = get_condition(plan(build_observed(pods=(pod,))), "WorkersHealthy")
    assert (condition["status"], condition["reason"]) == ("False", "ImagePullFailed")
    assert "spec.worker.image" in condition["message"]


def test_children_in_order_and_owned():
    """The ServiceAccount and the Secret are there before the pods that need them."""
    children = plan(build_observed()).apply
    assert [child["kind"] for child in children] == ["ServiceAccount", "Secret", "Deployment"]
    for child in children:
        assert child["metadata"]["name"] == "q-worker"
        assert child["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert "replicas" not in children[2]["spec"]


def test_no_secret_in_the_deployment():
    """Credentials are in the Secret and nowhere else."""
    children = plan(build_observed(credentials=Credentials("amqp://u:hidden@b", "redis://:hidden@r"))).apply
    assert "hidden" not in str(children[2])
    assert "hidden" not in repr(build_observed(credentials=Credentials("amqp://u:hidden@b", "redis://r")))


def test_workers_wait_for_their_queue():
    """A worker without its queue would only crash; the Deployment is made meanwhile, without replicas."""
    result = plan(build_observed(statistics=build_statistics(5), topology_ready=False))
    assert result.scale is None
    assert [child["kind"] for child in result.apply][-1] == "Deployment"
    assert get_condition(result, "Ready")["reason"] == "QueuePending"


def test_an_existing_fleet_may_shrink_while_the_queue_is_being_declared():
    """Only new workers need the queue."""
    pods, beats = build_pods(2)
    deployed = {("Deployment", "q-worker"): build_deployment(2)}
    seen = build_observed(
        {"scaling": {"replicas": 1}}, children=deployed, pods=pods, heartbeats=beats, topology_ready=False
    )
    assert len(plan(seen).fence) == 1


def test_schedules_bound_the_replicas_and_are_looked_at_without_an_event():
    """At NOW, midnight of a Thursday, the schedule has fired."""
    schedules = [{"cron": "0 0 * * *", "minReplicas": 4, "maxReplicas": 6}]
    result = plan(build_observed({"scaling": {"schedules": schedules}}))
    assert result.scale.replicas == 4
    idle = plan(build_observed({"scaling": {"schedules": [{"cron": "0 0 * * *", "maxReplicas": 6}]}}))
    assert idle.scale is None
    assert idle.requeue_after_seconds is not None
    assert plan(build_observed()).requeue_after_seconds is None


def test_what_is_in_the_workers_hands_is_known_from_them_where_the_broker_does_not_tell():
    """Passive declares tell of waiting messages only."""
    pods, beats = build_pods(2)
    busy = tuple({**beat, "busy": 2} for beat in beats)
    waiting = QueueStatistics(3, None, None, None, None, 0.0)
    deployed = {("Deployment", "q-worker"): build_deployment(2)}
    told = plan(build_observed(children=deployed, pods=pods, heartbeats=busy, statistics=waiting))
    assert told.decision.cause != "unknown"


def test_waiting_tasks_wake_a_sleeping_queue_whatever_else_is_unknown():
    """A broker read by declares only, with the store away: more workers, never fewer."""
    waiting = QueueStatistics(9, None, None, None, None, 0.0)
    assert plan(build_observed(heartbeats=None, statistics=waiting)).scale.replicas >= 1
    pods, _ = build_pods(2)
    deployed = {("Deployment", "q-worker"): build_deployment(2)}
    none = replace(waiting, ready=0)
    kept = plan(build_observed(children=deployed, pods=pods, heartbeats=None, statistics=none))
    assert (kept.decision.replicas, kept.scale) == (2, None)


FULL = QueueStatistics(3, 1, 7, 6, 1, 0.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        pytest.param({"statistics": FULL}, None, id="nothing is missing"),
        pytest.param({"statistics": FULL, "heartbeats": None}, "heartbeats", id="no heartbeats"),
        pytest.param({"statistics": FULL, "silent": frozenset({"p"})}, "silent", id="a silent worker"),
        pytest.param({"statistics": replace(FULL, unacknowledged=None)}, "waiting tasks only", id="declares only"),
        pytest.param({"statistics": replace(FULL, published=None)}, "publications", id="no counters, as on 3.x"),
        pytest.param({"statistics": replace(FULL, is_stale=True)}, "seconds old", id="stale"),
    ],
)
def test_what_is_missing_is_named_and_does_not_stop_the_rule(changes, named):
    """Partial is True: the rule goes on with less."""
    result = plan(build_observed(**changes))
    condition = get_condition(result, "MetricsAvailable")
    assert (condition["status"], condition["reason"]) == ("True", "Partial" if named else "StatisticsFresh")
    assert (named or "fresh") in condition["message"]
    assert result.scale is not None


@pytest.mark.parametrize(
    ("grace", "fenced"),
    [pytest.param(10, 0, id="tasks may outlive the grace period"), pytest.param(None, 1, id="they cannot")],
)
def test_nobody_leaves_during_a_rollout_whose_task_might_be_cut(grace, fenced):
    """Deletion costs rank pods within one ReplicaSet, and a rollout has two."""
    pods, beats = build_pods(3)
    busy = (beats[0], beats[1], {**beats[2], "busy": 1})
    rolling = {**build_deployment(3), "status": {"replicas": 3, "updatedReplicas": 1}}
    spec = {"worker": {"gracePeriodSeconds": grace, "maxTaskSeconds": 600}, "scaling": {"replicas": 2}}
    seen = build_observed(spec, children={("Deployment", "q-worker"): rolling}, pods=pods, heartbeats=busy)
    assert len(plan(seen).fence) == fenced


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"statistics_reason": "BrokerUnreachable"}, "BrokerUnreachable", id="down"),
        pytest.param({"statistics_reason": "BrokerCredentialsRefused"}, "BrokerCredentialsRefused", id="refused"),
        pytest.param({"statistics_reason": "QueueMissing"}, "QueueMissing", id="missing"),
    ],
)
def test_each_reason_for_unknown_figures_holds_and_is_named(changes, reason):
    """Replicas stay in each case."""
    pods, beats = build_pods(2)
    deployed = {("Deployment", "q-worker"): build_deployment(2)}
    result = plan(
        build_observed(
            children=deployed, pods=pods, heartbeats=beats, statistics=None, statistics_error="why", **changes
        )
    )
    assert result.scale is None
    assert result.fence == ()
    for kind in ("MetricsAvailable", "Ready"):
        condition = get_condition(result, kind)
        assert (condition["status"], condition["reason"]) == ("False", reason)


def test_what_is_newly_wrong_is_an_event_once():
    """The condition goes on to tell; a queue that is being declared is no fault."""
    broken = build_observed(statistics=None, statistics_error="why", statistics_reason="BrokerUnreachable")
    first = plan(broken)
    assert [(event.kind, event.reason) for event in first.events] == [("Warning", "BrokerUnreachable")]
    again = plan(replace(broken, raw={**broken.raw, "status": first.status}))
    assert again.events == ()
    assert plan(build_observed(topology_ready=False)).events == ()


def test_workers_of_several_queues_consume_them_all():
    """The first one names them."""
    queues = [{"name": "urgent", "weight": 3}, {"name": "bulk"}]
    deployment = plan(build_observed({"queues": queues})).apply[2]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["command"][container["command"].index("-Q") + 1] == "urgent,bulk"
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (env["TASKFLEET_QUEUE"], env["TASKFLEET_QUEUES"]) == ("urgent", "urgent=3,bulk=1")
    alone = plan(build_observed()).apply[2]["spec"]["template"]["spec"]["containers"][0]
    assert "TASKFLEET_QUEUES" not in {entry["name"] for entry in alone["env"]}
