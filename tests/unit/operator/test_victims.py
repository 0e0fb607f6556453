"""Who leaves when there are too many workers."""

from datetime import UTC, datetime, timedelta

import pytest

from taskfleet_operator.observed import PodFacts
from taskfleet_operator.victims import build_costs, select_victims

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def build_pod(name, *, age=100, ready=True, terminating=False, cost=None):
    """A pod whose uid is its name."""
    return PodFacts(name, name, NOW - timedelta(seconds=age), ready, terminating, cost)


def build_beat(name, busy=0, consuming=True):
    """What the pod's worker says."""
    return {"pod_uid": name, "host": name, "busy": busy, "consuming": consuming, "slots": 2}


@pytest.mark.parametrize(
    ("busy", "count", "may_be_busy", "expected"),
    [
        pytest.param({"a": 1, "b": 0, "c": 2}, 1, False, ("b",), id="the idle one leaves"),
        pytest.param({"a": 1, "b": 0, "c": 2}, 2, False, ("b",), id="no busy one leaves when its task would be killed"),
        pytest.param({"a": 1, "b": 0, "c": 2}, 2, True, ("b", "a"), id="the emptiest of the busy ones leaves next"),
        pytest.param({"a": 0, "b": 0, "c": 0}, 1, False, ("c",), id="the youngest of equals leaves"),
        pytest.param({"a": 1, "b": None, "c": 0}, 1, False, ("b",), id="one that has not started leaves first"),
    ],
)
def test_idle_then_emptiest_then_youngest(busy, count, may_be_busy, expected):
    """`None` is a pod without a heartbeat."""
    pods = [build_pod(name, age=300 - 100 * place) for place, name in enumerate(busy)]
    beats = [build_beat(name, tasks) for name, tasks in busy.items() if tasks is not None]
    chosen = select_victims(pods, beats, count, frozenset(), may_be_busy=may_be_busy)
    assert tuple(pod.name for pod in chosen.victims) == expected


def test_victims_leave_only_after_they_stopped_taking_tasks():
    """Fenced and confirmed by heartbeat: a task taken in between would be interrupted."""
    pods = [build_pod("a"), build_pod("b", age=50)]
    consuming = [build_beat("a"), build_beat("b")]
    assert not select_victims(pods, consuming, 1, frozenset({"b"}), may_be_busy=False).ready_to_leave
    stopped = [build_beat("a"), build_beat("b", consuming=False)]
    assert not select_victims(pods, stopped, 1, frozenset(), may_be_busy=False).ready_to_leave
    chosen = select_victims(pods, stopped, 1, frozenset({"b"}), may_be_busy=False)
    assert chosen.ready_to_leave
    assert [pod.name for pod in chosen.victims] == ["b"]


def test_nobody_leaves_while_a_busy_pod_is_not_ready():
    """A ReplicaSet would remove the busy one first."""
    pods = [build_pod("a", ready=False), build_pod("b")]
    chosen = select_victims(pods, [build_beat("a", 1), build_beat("b")], 1, frozenset(), may_be_busy=True)
    assert chosen.victims == ()
    assert "not Ready" in chosen.reason


def test_ready_pods_do_not_leave_while_others_start_that_are_meant_to_stay():
    """Kubernetes would take the starting ones."""
    pods = [build_pod("a"), build_pod("b", ready=False), build_pod("c", ready=False)]
    chosen = select_victims(pods, [build_beat("a")], 1, frozenset(), may_be_busy=False)
    assert {pod.name for pod in chosen.victims} <= {"b", "c"}


def test_costs_prefer_the_victims_and_protect_the_busiest():
    """Only what differs from the pod's present cost is written."""
    pods = [build_pod("a"), build_pod("b", cost=-1000), build_pod("c", terminating=True), build_pod("d", cost=300)]
    beats = [build_beat("a", 2), build_beat("b"), build_beat("d", 3)]
    assert build_costs(pods, beats, [pods[1]]) == {"a": 200}
