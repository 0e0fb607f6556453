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
        pytest.param({"a": 1, "b": 0, "c": 2}, 2, False, ("b", "a"), id="the emptiest of the busy ones is next"),
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
    assert select_victims(pods, consuming, 1, frozenset({"b"}), may_be_busy=False).leaving == ()
    stopped = [build_beat("a"), build_beat("b", consuming=False)]
    assert select_victims(pods, stopped, 1, frozenset(), may_be_busy=False).leaving == ()
    chosen = select_victims(pods, stopped, 1, frozenset({"b"}), may_be_busy=False)
    assert [pod.name for pod in chosen.leaving] == ["b"]


@pytest.mark.parametrize(
    ("covered", "leaving"),
    [pytest.param(True, ["a", "b"], id="the grace period covers it"), pytest.param(False, ["b"], id="it might be cut")],
)
def test_a_busy_victim_finishes_what_it_holds_and_holds_up_no_other(covered, leaving):
    """It takes no new task meanwhile, so that it comes to an end also where there is always work."""
    pods = [build_pod("a"), build_pod("b", age=50)]
    beats = [build_beat("a", 1, consuming=False), build_beat("b", consuming=False)]
    chosen = select_victims(pods, beats, 2, frozenset({"a", "b"}), may_be_busy=covered)
    assert {pod.name for pod in chosen.victims} == {"a", "b"}
    assert sorted(pod.name for pod in chosen.leaving) == leaving


def test_a_victim_stays_chosen_until_it_has_stopped_and_shows_what_it_holds():
    """Among workers with short tasks another one is idle each second."""
    pods = [build_pod("a"), build_pod("b", age=50)]
    asked = [build_beat("a", 2), build_beat("b", 0)]
    chosen = select_victims(pods, asked, 1, frozenset({"a"}), may_be_busy=False)
    assert [pod.name for pod in chosen.victims] == ["a"]
    stopped = [build_beat("a", 2, consuming=False), build_beat("b", 0)]
    chosen = select_victims(pods, stopped, 1, frozenset({"a"}), may_be_busy=False)
    assert [pod.name for pod in chosen.victims] == ["b"]


def test_a_silent_worker_is_not_an_idle_one():
    """Its tasks are unknown: it leaves last, and only where its grace period covers them."""
    pods = [build_pod("a"), build_pod("b", age=50)]
    beats = [build_beat("a", 1)]
    silent = frozenset({"b"})
    chosen = select_victims(pods, beats, 1, frozenset(), may_be_busy=False, silent=silent)
    assert [pod.name for pod in chosen.victims] == ["a"]
    assert select_victims(pods, [], 2, frozenset(), may_be_busy=False, silent=silent | {"a"}).victims == ()
    both = select_victims(pods, [], 2, frozenset(), may_be_busy=True, silent=silent | {"a"})
    assert len(both.victims) == 2
    costs = build_costs(pods, beats, [pods[0]], silent)
    assert costs["b"] > 100 > costs["a"]


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
