"""How many workers a queue needs. Pure: no clock, no client, no logger; the same for operator, local mode, simulator.

One decision, in task slots (M/G/infinity transient plus backlog drain plus safety):

    need = busy*e + rate*S*(1-e)  +  ready / (1 + T/S)  +  safety        with e = exp(-H/S)

S is the mean run time, H the time until a worker asked for now is ready, T what the wait target leaves after that.
Upwards at once; downwards after short holds, one for backlog and one for load, and never below the busy workers when
their tasks may outlive the grace period. What cannot be read holds the present replicas.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = ["Cause", "Decision", "Memory", "Observation", "ScalingSpec", "Terms", "decide"]

FAST_SECONDS, SLOW_SECONDS = 10.0, 30.0  # the two arrival averages; the larger counts: up at once, down slowly
RUN_TIME_MEMORY_SECONDS = 300.0
PRIOR_RUN_SECONDS = 2.0  # one imagined completion, until workers have told better
PRIOR_STARTUP_SECONDS = 5.0
ENOUGH_COMPLETIONS = 5  # before, the age of the oldest wait for a completion bounds S from below
SAFETY_PER_ROOT_SLOT = 1.0  # square-root staffing
LATE_SHARE = 0.05  # share of tasks that may wait longer than the target
DRAIN_SHARE = 0.1  # of the start-up time: the least time to drain a backlog when start-up eats the wait target
BACKLOG_HOLD_STARTUPS, BACKLOG_HOLD_MAX_SECONDS = 0.5, 5.0
LOAD_HOLD_STARTUPS, LOAD_HOLD_MIN_SECONDS, LOAD_HOLD_MAX_SECONDS = 2.0, 8.0, 30.0
DEAD_BAND_SHARE = 0.05
ROUNDING_SLACK = 0.05  # of a worker: 2.04 workers are 2
SLOW_TASK_SHARE = 0.001  # more slow tasks than this make a busy worker a bad victim


class Cause(StrEnum):
    """Why a decision is what it is: stable names for metrics and conditions."""

    UNKNOWN = "unknown"
    PINNED = "pinned"
    BACKLOG = "backlog"
    LOAD = "load"
    DEPTH = "depth"
    HELD = "held"
    BUSY = "busy"
    IDLE = "idle"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    FLEET = "fleet"  # a limit of several queues: see fleet.py


@dataclass(frozen=True, slots=True)
class ScalingSpec:
    """What the user asked for, in plain numbers."""

    min_replicas: int = 0
    max_replicas: int = 50
    target_wait_seconds: float = 5.0
    target_queue_depth: int | None = None  # set: the classic rule, messages per replica
    idle_seconds: float = 60.0
    pinned_replicas: int | None = None  # set: fixed, whatever the queue holds
    slots_per_replica: int = 1
    max_task_seconds: float = 3600.0
    grace_seconds: float = 3600.0
    interval_seconds: float = 1.0  # between two decisions


@dataclass(frozen=True, slots=True)
class Observation:
    """What broker and workers tell. None means unknown, never zero. Counters only grow; a smaller one was reset."""

    at: float  # seconds, any clock that only moves forward
    ready: int | None
    unacknowledged: int | None
    replicas: int  # asked for last
    ready_replicas: int = 0  # consuming
    idle_replicas: int | None = None  # consuming and without a task
    busy_slots: int | None = None  # by heartbeats; fresher than the broker's unacknowledged
    published: int | None = None  # broker counter; None: arrivals are told from depth and completions
    completed: int = 0  # tasks finished by workers of this queue so far, all outcomes
    run_seconds_sum: float = 0.0  # ... and their run time
    slow_share: float | None = None  # share of completed tasks that ran longer than a third of the grace period
    startup_seconds: float | None = None  # asked for until first heartbeat, averaged


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of one decision, for people and metrics."""

    run_seconds: float = 0.0  # S
    arrivals_per_second: float = 0.0
    load_slots: float = 0.0
    backlog_slots: float = 0.0
    safety_slots: float = 0.0
    wait_seconds: float | None = None  # expected for the last task in the queue with the workers that are ready
    need_replicas: int = 0  # before holds and bounds
    held_replicas: int = 0  # after holds, before bounds


Window = tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decision leaves for the next one. Start with None; losing it costs seconds of precision, no safety."""

    spec: ScalingSpec
    at: float
    published: int | None
    completed: int
    run_seconds_sum: float
    tasks_in_queue: int
    completions: float = 0.0  # decayed
    run_seconds: float = 0.0  # decayed
    fast_rate: float = 0.0
    slow_rate: float = 0.0
    needs: Window = ()
    loads: Window = ()
    task_seen_at: float = 0.0
    completion_seen_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas to ask for, and why."""

    replicas: int
    cause: Cause
    reason: str
    terms: Terms
    memory: Memory | None


def decide(observation: Observation, spec: ScalingSpec, memory: Memory | None) -> Decision:
    """Decide the replicas of one queue from one observation and what the last decision left."""
    ready, unacknowledged = observation.ready, observation.unacknowledged
    if ready is None or unacknowledged is None:
        kept = replace(memory, task_seen_at=observation.at) if memory else None  # idle time must be seen to count
        reason = f"queue statistics cannot be read: keeping {observation.replicas}"
        return _bound(spec, Decision(observation.replicas, Cause.UNKNOWN, reason, Terms(), kept))
    if memory is None:
        memory = _start(observation, spec, ready + unacknowledged)
    busy = unacknowledged if observation.busy_slots is None else observation.busy_slots
    memory, arrived = _learn(observation, spec, memory, ready, unacknowledged)
    terms = _weigh(observation, spec, memory, ready, busy)
    has_tasks = bool(ready or unacknowledged or arrived)
    return _bound(spec, _hold(observation, spec, memory, terms, has_tasks, ready + unacknowledged))


def _start(seen: Observation, spec: ScalingSpec, depth: int) -> Memory:
    return Memory(
        spec=spec,
        at=seen.at,
        published=seen.published,
        completed=seen.completed,
        run_seconds_sum=seen.run_seconds_sum,
        tasks_in_queue=depth,
        task_seen_at=seen.at,
        completion_seen_at=seen.at,
    )


def _learn(seen: Observation, spec: ScalingSpec, memory: Memory, ready: int, unacknowledged: int) -> tuple[Memory, int]:
    """Fold the observation into run times and arrival rates; also tells how many tasks arrived."""
    elapsed = max(0.0, seen.at - memory.at)
    done = max(0, seen.completed - memory.completed)
    if seen.published is not None and memory.published is not None:
        arrived = max(0, seen.published - memory.published)
    else:
        arrived = max(0, ready + unacknowledged - memory.tasks_in_queue + done)
    keep = math.exp(-elapsed / RUN_TIME_MEMORY_SECONDS) if done else 1.0
    memory = replace(
        memory,
        spec=spec,
        at=seen.at,
        published=seen.published,
        completed=seen.completed,
        run_seconds_sum=seen.run_seconds_sum,
        tasks_in_queue=ready + unacknowledged,
        completions=memory.completions * keep + done,
        run_seconds=memory.run_seconds * keep + max(0.0, seen.run_seconds_sum - memory.run_seconds_sum),
        completion_seen_at=seen.at if done or not unacknowledged else memory.completion_seen_at,
        task_seen_at=seen.at if ready or unacknowledged or arrived else memory.task_seen_at,
        # Holds belong to the spec they were made under: a new spec acts at once.
        needs=memory.needs if memory.spec == spec else (),
        loads=memory.loads if memory.spec == spec else (),
    )
    if not elapsed:
        return memory, arrived
    run = _run_seconds(memory)
    fast, slow = (1 - math.exp(-elapsed / max(seconds, run / 4)) for seconds in (FAST_SECONDS, SLOW_SECONDS))
    rate = arrived / elapsed
    fast_rate = memory.fast_rate + (rate - memory.fast_rate) * fast
    slow_rate = memory.slow_rate + (rate - memory.slow_rate) * slow
    return replace(memory, fast_rate=fast_rate, slow_rate=slow_rate), arrived


def _run_seconds(memory: Memory) -> float:
    mean = (memory.run_seconds + PRIOR_RUN_SECONDS) / (memory.completions + 1.0)
    if memory.completions < ENOUGH_COMPLETIONS:
        return max(mean, memory.at - memory.completion_seen_at)
    return mean


def _weigh(seen: Observation, spec: ScalingSpec, memory: Memory, ready: int, busy: int) -> Terms:
    """The slots needed once a worker asked for now is ready."""
    run = _run_seconds(memory)
    rate = max(memory.fast_rate, memory.slow_rate)
    startup = seen.startup_seconds or PRIOR_STARTUP_SECONDS
    target = spec.target_wait_seconds
    ahead = startup + spec.interval_seconds
    staying = math.exp(-ahead / run)
    load = busy * staying + rate * run * (1 - staying)
    safety = min(SAFETY_PER_ROOT_SLOT * math.sqrt(load), run / target * math.log(1 / LATE_SHARE))
    drain_seconds = max(target - ahead, DRAIN_SHARE * min(startup, target))
    backlog = ready / (1 + drain_seconds / run)
    slots = seen.ready_replicas * spec.slots_per_replica
    return Terms(
        run_seconds=run,
        arrivals_per_second=rate,
        load_slots=load,
        backlog_slots=backlog,
        safety_slots=safety,
        wait_seconds=(ready * run / slots if slots else None) if ready else 0.0,
        need_replicas=_to_replicas(load + safety + backlog, spec),
        held_replicas=0,
    )


def _to_replicas(slots: float, spec: ScalingSpec) -> int:
    return max(0, math.ceil(slots / spec.slots_per_replica - ROUNDING_SLACK))


def _hold(seen: Observation, spec: ScalingSpec, memory: Memory, terms: Terms, has_tasks: bool, depth: int) -> Decision:
    """Turn the need into replicas: classic rule, idle time, holds, dead band and the floor of busy workers."""
    load = _to_replicas(terms.load_slots + terms.safety_slots, spec)
    need = terms.need_replicas
    if spec.target_queue_depth is not None:
        need = load = math.ceil(depth / spec.target_queue_depth)
    idle_for = seen.at - memory.task_seen_at
    if has_tasks:
        need = max(need, 1)
    elif idle_for < spec.idle_seconds:
        need = max(need, min(1, seen.replicas))
    else:
        need = load = 0
        memory = replace(memory, needs=(), loads=())  # idleSeconds are longer than any hold, or meant to be shorter
    startup = seen.startup_seconds or PRIOR_STARTUP_SECONDS
    needs = _push(memory.needs, seen.at, need, min(BACKLOG_HOLD_STARTUPS * startup, BACKLOG_HOLD_MAX_SECONDS))
    load_hold = min(max(LOAD_HOLD_STARTUPS * startup, LOAD_HOLD_MIN_SECONDS), LOAD_HOLD_MAX_SECONDS)
    loads = _push(memory.loads, seen.at, load, load_hold)
    memory = replace(memory, needs=needs, loads=loads)
    held = max(needs[0][1], loads[0][1])
    terms = replace(terms, need_replicas=need, held_replicas=held)
    if need >= seen.replicas:
        return _explain_need(seen, spec, memory, replace(terms, held_replicas=need), depth, idle_for)
    if held and held > seen.replicas - max(1.0, DEAD_BAND_SHARE * seen.replicas):
        reason = f"needs {need}, held at {seen.replicas} until the lower need has lasted {load_hold:.0f} s"
        return Decision(seen.replicas, Cause.HELD, reason, terms, memory)
    floor = _busy_floor(seen, spec, terms)
    if held < floor:
        reason = f"needs {held}, but {floor} workers are busy with tasks that may outlive the grace period"
        return Decision(floor, Cause.BUSY, reason, terms, memory)
    if not held:
        reason = f"no task for {idle_for:.0f} s (idleSeconds {spec.idle_seconds:g})"
        return Decision(0, Cause.IDLE, reason, terms, memory)
    return _explain_need(seen, spec, memory, terms, depth, idle_for)


def _push(window: Window, at: float, value: int, length: float) -> Window:
    """Add a value; the first one left is the largest of the last `length` seconds."""
    kept = tuple(item for item in window if item[1] > value and item[0] >= at - length)
    return (*kept, (at, value))


def _busy_floor(seen: Observation, spec: ScalingSpec, terms: Terms) -> int:
    """Workers that must stay although fewer are needed: those whose tasks would be killed by leaving."""
    safe = spec.grace_seconds >= spec.max_task_seconds
    slow = terms.run_seconds > spec.grace_seconds or seen.slow_share is None or seen.slow_share > SLOW_TASK_SHARE
    if safe or not slow or seen.idle_replicas is None:
        return 0
    starting = max(0, seen.replicas - seen.ready_replicas)
    return max(0, seen.replicas - seen.idle_replicas - starting)


def _explain_need(
    seen: Observation, spec: ScalingSpec, memory: Memory, terms: Terms, depth: int, idle_for: float
) -> Decision:
    replicas = terms.held_replicas
    if spec.target_queue_depth is not None:
        reason = f"{depth} tasks at {spec.target_queue_depth} a replica"
        return Decision(replicas, Cause.DEPTH, reason, terms, memory)
    if not depth and not terms.arrivals_per_second > 0.01:
        if not replicas:
            return Decision(0, Cause.IDLE, "no tasks", terms, memory)
        reason = f"no task for {idle_for:.0f} s, the last replica stays {spec.idle_seconds:g} s"
        return Decision(replicas, Cause.HELD, reason, terms, memory)
    if terms.backlog_slots > terms.load_slots:
        waiting = "1 waiting task" if seen.ready == 1 else f"{seen.ready} waiting tasks"
        reason = f"{waiting} of {terms.run_seconds:.2g} s shall start within {spec.target_wait_seconds:g} s"
        return Decision(replicas, Cause.BACKLOG, reason, terms, memory)
    reason = (
        f"{terms.arrivals_per_second:.2g} tasks/s of {terms.run_seconds:.2g} s: "
        f"{terms.load_slots:.1f} busy slots + {terms.safety_slots:.1f} spare"
    )
    return Decision(replicas, Cause.LOAD, reason, terms, memory)


def _bound(spec: ScalingSpec, decision: Decision) -> Decision:
    """Apply the pin, or minimum and maximum: the last word, whatever the rule said."""
    if spec.pinned_replicas is not None:
        reason = f"fixed at {spec.pinned_replicas} by spec.scaling.replicas"
        return replace(decision, replicas=spec.pinned_replicas, cause=Cause.PINNED, reason=reason)
    if decision.replicas > spec.max_replicas:
        reason = f"maxReplicas {spec.max_replicas} (the rule wants {decision.replicas}: {decision.reason})"
        return replace(decision, replicas=spec.max_replicas, cause=Cause.MAXIMUM, reason=reason)
    if decision.replicas < spec.min_replicas:
        reason = f"minReplicas {spec.min_replicas} (the rule wants {decision.replicas})"
        return replace(decision, replicas=spec.min_replicas, cause=Cause.MINIMUM, reason=reason)
    return decision
