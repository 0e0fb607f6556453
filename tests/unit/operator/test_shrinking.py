"""Scaling in, tried with many fleets: nobody is interrupted, and it comes to an end."""

import functools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet_core.statistics import QueueStatistics
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.observed import Credentials, Observed, PodFacts
from taskfleet_operator.planning import build_plan
from taskfleet_operator.victims import select_victims

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SLOTS = 4


def build_pod(name, *, age=0, ready=True, cost=None):
    """A pod whose uid is its name."""
    return PodFacts(name, name, NOW - timedelta(seconds=age), ready, False, cost)


@functools.cache
def build_queue(grace_seconds, wanted):
    """Manifest and model of the fleet's TaskQueue, pinned."""
    worker = {"image": "a:1", "app": "a:b", "concurrency": SLOTS, "maxTaskSeconds": 600}
    worker["gracePeriodSeconds"] = grace_seconds
    raw = {
        "apiVersion": "taskfleet.dev/v1alpha1",
        "kind": "TaskQueue",
        "metadata": {"name": "q", "namespace": "team", "uid": "u1"},
        "spec": {"worker": worker, "scaling": {"replicas": wanted}},
    }
    return raw, TaskQueue.model_validate(raw)


def build_beat(name, busy, consuming):
    """What its worker says."""
    return {"pod_uid": name, "host": name, "busy": busy, "consuming": consuming, "slots": SLOTS}


pods = st.lists(
    st.tuples(
        st.booleans(),  # Ready
        st.none() | st.integers(0, SLOTS),  # tasks in hand; None: no heartbeat
        st.booleans(),  # consuming
        st.booleans(),  # fenced
        st.booleans(),  # silent, if there is no heartbeat
        st.integers(0, 3),  # age
    ),
    max_size=7,
)


@given(pods, st.integers(0, 8), st.booleans())
def test_who_is_chosen(described, count, covered):
    """For whatever fleet: idle before busy, the emptiest first, and what may be cut does not leave."""
    fleet = [build_pod(f"p{n}", age=age, ready=ready) for n, (ready, *_, age) in enumerate(described)]
    held = {f"p{n}": busy for n, (_, busy, *_) in enumerate(described)}
    beats = [build_beat(f"p{n}", busy, takes) for n, (_, busy, takes, *_) in enumerate(described) if busy is not None]
    fenced = frozenset(f"p{n}" for n, item in enumerate(described) if item[3])
    silent = frozenset(f"p{n}" for n, item in enumerate(described) if item[1] is None and item[4])
    stopped = {beat["pod_uid"] for beat in beats if not beat["consuming"]} & fenced
    chosen = select_victims(fleet, beats, count, fenced, may_be_busy=covered, silent=silent)
    victims, leaving = {pod.uid for pod in chosen.victims}, {pod.uid for pod in chosen.leaving}
    assert len(victims) <= count
    assert leaving <= victims
    assert all(held[uid] is None or uid in stopped for uid in leaving), "stops taking tasks before it is removed"
    ready = {pod.uid for pod in fleet if pod.is_ready}
    if not covered:
        assert not any(held[uid] for uid in leaving), "a task might be cut"
        assert not victims & silent & ready, "what it holds is unknown"
    if leaving & ready:
        assert leaving >= {pod.uid for pod in fleet if not pod.is_ready}, "Kubernetes takes those first"
    busy = {uid for uid in ready & victims - fenced if held[uid]}
    idle = {uid for uid in ready if held[uid] == 0}
    assert not busy or idle <= victims, "idle ones first"
    others = {uid for uid in ready - victims - fenced if held[uid]}
    assert all(held[one] <= held[other] for one in busy for other in others), "the emptiest first"


@dataclass
class Worker:
    """A pod with tasks; it reads its fence each second and says so a second later."""

    name: str
    born: int
    tasks: list[int] = field(default_factory=list)  # seconds left
    fenced: bool = False
    says: dict = field(default_factory=dict)
    cost: int = 0

    def live(self, fences):
        """One second."""
        self.says = build_beat(self.name, len(self.tasks), not self.fenced)
        self.fenced = self.name in fences
        self.tasks = [left - 1 for left in self.tasks if left > 1]


@dataclass
class Fleet:
    """Workers, a queue that never empties, and a ReplicaSet that removes as Kubernetes does."""

    workers: list[Worker]
    durations: list[int]
    covered: bool
    fences: frozenset[str] = frozenset()
    interrupted: int = 0
    served: int = 0

    def step(self, wanted, load):
        """One second: work, look, decide, remove."""
        for worker in self.workers:
            worker.live(self.fences)
        self.hand_out(load)
        plan = build_plan(self.observe(wanted), "injection", NOW, 1000.0)
        self.fences = (self.fences - set(plan.unfence)) | set(plan.fence)
        if plan.scale is None:
            return
        for worker in self.workers:
            worker.cost = plan.scale.costs.get(worker.name, worker.cost)
        while len(self.workers) > plan.scale.replicas:
            gone = min(self.workers, key=lambda worker: (worker.cost, -worker.born))
            self.workers.remove(gone)
            self.interrupted += len(gone.tasks)

    def hand_out(self, load):
        """New tasks until so many slots of the workers that take some are busy."""
        takers = [worker for worker in self.workers if not worker.fenced]
        while takers and sum(len(worker.tasks) for worker in takers) < load * SLOTS * len(takers):
            taker = min(takers, key=lambda worker: (len(worker.tasks), worker.born * 7 % 5))
            taker.tasks.append(self.durations[self.served % len(self.durations)])
            self.served += 1

    def observe(self, wanted):
        """What the operator sees; heartbeats are a second old."""
        raw, queue = build_queue(600 if self.covered else 10, wanted)
        replicas = len(self.workers)
        deployed = {"metadata": {"name": "q-worker", "resourceVersion": "7"}, "spec": {"replicas": replicas}}
        return Observed(
            queue=queue,
            raw=raw,
            credentials=Credentials("amqp://b", "redis://r"),
            children={("Deployment", "q-worker"): deployed},
            pods=tuple(replace(build_pod(w.name, age=-w.born), deletion_cost=w.cost) for w in self.workers),
            statistics=QueueStatistics(9, 9, None, None, None, 0.0),
            heartbeats=tuple(worker.says for worker in self.workers),
            fenced=self.fences & {worker.name for worker in self.workers},
        )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 7),
    st.integers(0, 4),
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.sampled_from([0.25, 0.5, 1.0]),
)
def test_a_busy_fleet_shrinks_without_an_interrupted_task(size, wanted, durations, load):
    """Also while there is always work, so that no worker of several slots is ever idle by itself."""
    fleet = Fleet([Worker(f"w{n}", n) for n in range(size)], durations, covered=False)
    for _ in range(60):
        fleet.step(min(wanted, size), load)
    assert fleet.interrupted == 0
    assert len(fleet.workers) == min(wanted, size)


@pytest.mark.parametrize("covered", [True, False])
def test_idle_ones_go_within_seconds_while_long_tasks_stay(covered):
    """Where the grace period covers the tasks their pods may leave too, and finish them on the way."""
    workers = [Worker(f"w{n}", n, [120] if n % 3 == 0 else []) for n in range(9)]
    fleet = Fleet(workers, [120], covered=covered)
    for _ in range(5):
        fleet.step(3, 0.0)
    assert [worker.name for worker in fleet.workers] == ["w0", "w3", "w6"]
    assert fleet.interrupted == 0
