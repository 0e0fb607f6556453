"""Discrete-event simulation of one queue and its worker pods. Exact event times, no time step.

Pods take one task per free slot (prefetch 1), tasks go to free slots in turn, a killed task goes back to the head of
the queue. Not modelled: limits of the API server and the scheduler, priorities, failures.
"""

import heapq
import math
import random
from collections import deque
from enum import Enum, auto

from taskfleet_core.scaling import Observation
from taskfleet_core.simulation.model import Conditions, Run, Scaler, StartupTimes, Trace

__all__ = ["simulate"]

STARTUP_MEMORY = 0.2  # weight of the newest start-up in the average that a rule sees


class _State(Enum):
    STARTING = auto()
    READY = auto()
    LEAVING = auto()
    GONE = auto()


class _Event(Enum):
    FINISH = auto()
    READY = auto()
    KILL = auto()


class _Pod:
    """A worker pod and the tasks that it runs, each with the moment of its start."""

    __slots__ = ("created", "id", "running", "state")

    def __init__(self, number: int, created: float) -> None:
        self.id, self.created = number, created
        self.state = _State.STARTING
        self.running: dict[int, float] = {}


def simulate(trace: Trace, scaler: Scaler, conditions: Conditions, *, seed: int = 1) -> Run:
    """Let a rule serve a trace. The same inputs and seed give the same run."""
    world = _World(trace, conditions, random.Random(seed))
    world.open(conditions.initial_replicas)
    return world.run(scaler)


class _World:
    """Queue, pods and what is to come."""

    def __init__(self, trace: Trace, conditions: Conditions, chance: random.Random) -> None:
        self.trace, self.conditions, self.chance = trace, conditions, chance
        self.startup = conditions.startup or StartupTimes()
        self.waits = [-1.0] * len(trace.arrivals)
        self.events: list[tuple[float, int, _Event, _Pod, int]] = []
        self.event_count = 0
        self.queue: deque[int] = deque()
        self.free: deque[_Pod] = deque()  # one entry for each free slot
        self.pods: dict[int, _Pod] = {}  # all that are paid for
        self.staying: dict[_Pod, None] = {}  # starting or ready, in order of creation
        self.replicas = 0
        self.ready_pods = 0
        self.arrived = self.unacknowledged = self.completed = self.slow = 0
        self.run_seconds_sum = 0.0
        self.startup_seconds: float | None = None
        self.broker = (0, 0, 0)
        self.broker_read_at = -math.inf
        self.last_finish = 0.0
        self.result = Run([], 0.0, 0, 0.0, 0, 0, 0, 0, 0.0, conditions.initial_replicas, [])

    def open(self, replicas: int) -> None:
        """Start with pods that are ready."""
        for _ in range(replicas):
            self.become_ready(self.create_pod(0.0), 0.0)
        self.startup_seconds = None
        self.replicas = self.result.peak = replicas

    def run(self, scaler: Scaler) -> Run:
        """Play everything; ends when all tasks are done and the horizon has passed, or the drain time is over."""
        arrivals, events, queue = self.trace.arrivals, self.events, self.queue
        interval, horizon, count = scaler.interval_seconds, self.trace.horizon, len(self.trace.arrivals)
        limit = horizon + self.conditions.drain_seconds
        next_tick = self.chance.random() * interval
        while True:
            arrival = arrivals[self.arrived] if self.arrived < count else math.inf
            event = events[0][0] if events else math.inf
            if arrival <= event and arrival <= next_tick:
                queue.append(self.arrived)
                self.arrived += 1
                if self.free:
                    self.dispatch(arrival)
            elif event <= next_tick:
                self.handle(*heapq.heappop(events))
            else:
                now = next_tick
                next_tick += interval
                if (self.completed >= count and now >= horizon) or now > limit:
                    return self.close()
                self.scale(scaler.decide(self.observe(now)), now)

    def handle(self, now: float, _: int, event: _Event, pod: _Pod, task: int) -> None:
        """Let one event happen."""
        if event is _Event.FINISH:
            self.finish(pod, task, now)
        elif event is _Event.READY:
            if pod.state is _State.STARTING:
                self.become_ready(pod, now)
        elif pod.state is _State.LEAVING:
            self.kill(pod, now)

    def plan(self, at: float, event: _Event, pod: _Pod, task: int = 0) -> None:
        """Add an event; equal moments keep their order."""
        self.event_count += 1
        heapq.heappush(self.events, (at, self.event_count, event, pod, task))

    def dispatch(self, now: float) -> None:
        """Hand waiting tasks to free slots, in turn."""
        while self.queue and self.free:
            pod = self.free.popleft()
            if pod.state is _State.READY:
                self.begin(self.queue.popleft(), pod, now)

    def begin(self, task: int, pod: _Pod, now: float) -> None:
        """Start a task."""
        pod.running[task] = now
        self.unacknowledged += 1
        self.plan(now + self.trace.run_seconds[task], _Event.FINISH, pod, task)

    def finish(self, pod: _Pod, task: int, now: float) -> None:
        """End a task, unless it was killed before."""
        started = pod.running.pop(task, None)
        if started is None:
            return
        self.unacknowledged -= 1
        self.completed += 1
        self.last_finish = now
        self.waits[task] = started - self.trace.arrivals[task]
        self.run_seconds_sum += now - started
        self.slow += now - started > self.conditions.grace_seconds / 3
        if pod.state is _State.READY:
            if self.queue:
                self.begin(self.queue.popleft(), pod, now)
            else:
                self.free.append(pod)
        elif pod.state is _State.LEAVING and not pod.running:
            self.end_pod(pod, now)

    def create_pod(self, now: float) -> _Pod:
        """Ask for a pod."""
        pod = _Pod(self.result.starts, now)
        self.result.starts += 1
        self.pods[pod.id] = pod
        self.staying[pod] = None
        return pod

    def become_ready(self, pod: _Pod, now: float) -> None:
        """A pod begins to consume."""
        pod.state = _State.READY
        self.ready_pods += 1
        took = now - pod.created
        last = self.startup_seconds
        self.startup_seconds = took if last is None else last + STARTUP_MEMORY * (took - last)
        self.free.extend([pod] * self.conditions.slots)
        self.dispatch(now)

    def kill(self, pod: _Pod, now: float) -> None:
        """SIGKILL at the end of the grace period: what still runs goes back to the head of the queue."""
        for task in sorted(pod.running, reverse=True):
            self.result.lost_seconds += now - pod.running[task]
            self.result.killed += 1
            self.unacknowledged -= 1
            self.queue.appendleft(task)
        pod.running.clear()
        self.end_pod(pod, now)
        self.dispatch(now)

    def end_pod(self, pod: _Pod, now: float) -> None:
        """A pod is gone and paid."""
        pod.state = _State.GONE
        self.result.pod_seconds += now - pod.created + self.conditions.stop_seconds
        del self.pods[pod.id]

    def scale(self, wanted: int, now: float) -> None:
        """Ask for another number of pods."""
        wanted = max(self.conditions.min_replicas, min(self.conditions.max_replicas, wanted))
        if wanted == self.replicas:
            return
        self.result.changes += 1
        self.result.timeline.append((now, wanted))
        for _ in range(wanted - self.replicas):
            pod = self.create_pod(now)
            self.plan(now + self.startup.draw(now, len(self.pods), self.chance), _Event.READY, pod)
        if wanted < self.replicas:
            ranked = sorted(self.staying, key=lambda pod: self.rank_victim(pod, now))
            for pod in ranked[: self.replicas - wanted]:
                self.dismiss(pod, now)
        self.replicas = wanted
        self.result.peak = max(self.result.peak, len(self.pods))

    def rank_victim(self, pod: _Pod, now: float) -> tuple[float, ...]:
        """The order in which a ReplicaSet lets pods go: not yet ready ones first, then by deletion cost or chance."""
        if pod.state is _State.STARTING:
            return (0, -pod.created, pod.id)
        if not self.conditions.idle_first:
            return (1, self.chance.random(), pod.id)
        return (1, len(pod.running), sum(now - started for started in pod.running.values()), pod.id)

    def dismiss(self, pod: _Pod, now: float) -> None:
        """SIGTERM: a pod takes no more tasks and ends with its last one, or by SIGKILL."""
        del self.staying[pod]
        if pod.state is _State.READY:
            self.ready_pods -= 1
        if pod.state is _State.STARTING or not pod.running:
            self.end_pod(pod, now)
            return
        pod.state = _State.LEAVING
        self.plan(now + self.conditions.grace_seconds, _Event.KILL, pod)

    def observe(self, now: float) -> Observation:
        """What broker and workers tell; the broker's figures may be older."""
        if now - self.broker_read_at >= self.conditions.statistics_seconds:
            self.broker_read_at = now
            self.broker = (len(self.queue), self.unacknowledged, self.arrived)
        ready, unacknowledged, published = self.broker
        idle = sum(1 for pod in self.staying if pod.state is _State.READY and not pod.running)
        return Observation(
            at=now,
            ready=ready,
            unacknowledged=unacknowledged,
            replicas=self.replicas,
            ready_replicas=self.ready_pods,
            idle_replicas=idle if self.conditions.idle_first else None,
            published=published,
            completed=self.completed,
            run_seconds_sum=self.run_seconds_sum,
            slow_share=self.slow / self.completed if self.completed else None,
            startup_seconds=self.startup_seconds,
        )

    def close(self) -> Run:
        """Pay what still runs; a task that never finished has waited until the end."""
        result = self.result
        result.end = max(self.trace.horizon, self.last_finish)
        result.pod_seconds += sum(max(0.0, result.end - pod.created) for pod in self.pods.values())
        result.unfinished = len(self.waits) - self.completed
        result.waits = [
            wait if wait >= 0 else max(0.0, result.end - arrival)
            for wait, arrival in zip(self.waits, self.trace.arrivals, strict=True)
        ]
        return result
