"""The decision, in task slots: busy when a worker asked for now is ready, plus backlog, plus spare.

    need = busy*e + rate*S*(1-e)  +  (ready - soon)/(1 + T/S)  +  safety        with e = exp(-H/S)

S is the mean run time, H the time until a worker asked for now is ready, `soon` what the present workers start within
a part of the wait target, T what the target leaves to new workers. Upwards at once; downwards after short holds, one
for backlog and one for load, never below what the waiting tasks need, nor below the busy workers when their tasks may
outlive the grace period.
"""

import math
from dataclasses import replace

from taskfleet_core.scaling.learning import get_rate, get_run_seconds, learn, start_memory
from taskfleet_core.scaling.limits import get_busy_floor, keep_bounds, keep_pace, push_high
from taskfleet_core.scaling.model import Cause, Decision, Memory, Observation, ScalingSpec, Terms
from taskfleet_core.scaling.words import explain_need

__all__ = ["decide"]

PRIOR_STARTUP_SECONDS = 5.0
PATIENCE_SHARE = 0.3  # of the wait target: what the present workers start within it needs no new ones
KEEPING_SHARE = 0.5  # of that: none goes while fewer would need longer for what waits
SPARE_SHARE = 0.1  # of the load at least: slots that are always busy let the queue grow
LATE_SHARE = 0.05  # of tasks that may wait longer than the target when the load is steady
DRAIN_SHARE = 0.1  # of the start-up time: the least time to drain a backlog when start-up eats the wait target
BACKLOG_HOLD_STARTUPS, BACKLOG_HOLD_MAX_SECONDS = 0.5, 5.0
LOAD_HOLD_STARTUPS, LOAD_HOLD_MIN_SECONDS, LOAD_HOLD_MAX_SECONDS = 1.25, 5.0, 30.0  # about what a restart costs
DEAD_BAND_SHARE = 0.05
ROUNDING_SLACK = 0.05  # of a worker: 2.04 workers are 2


def decide(observation: Observation, spec: ScalingSpec, memory: Memory | None) -> Decision:
    """Decide the replicas of one queue from one observation and what the last decision left."""
    ready, unacknowledged = observation.ready, observation.unacknowledged
    if ready is None or unacknowledged is None:
        kept = replace(memory, task_seen_at=observation.at) if memory else None  # idle time must be seen to count
        reason = f"queue statistics cannot be read: keeping {observation.replicas}"
        return keep_bounds(spec, Decision(observation.replicas, Cause.UNKNOWN, reason, Terms(), kept))
    if memory is None:
        memory = start_memory(observation, spec, ready + unacknowledged)
    memory, arrived = learn(observation, spec, memory, ready, unacknowledged)
    busy = unacknowledged if observation.busy_slots is None else observation.busy_slots
    terms = _weigh(observation, spec, memory, ready, busy)
    has_tasks = bool(ready or unacknowledged or arrived)
    decision = _hold(observation, spec, memory, terms, has_tasks, ready + unacknowledged)
    return keep_bounds(spec, keep_pace(observation, spec, decision))


def _weigh(seen: Observation, spec: ScalingSpec, memory: Memory, ready: int, busy: int) -> Terms:
    """The slots needed once a worker asked for now is ready."""
    run, rate = get_run_seconds(memory), get_rate(memory)
    startup = seen.startup_seconds or PRIOR_STARTUP_SECONDS
    target = spec.target_wait_seconds
    ahead = startup + spec.interval_seconds

    staying = math.exp(-ahead / run)  # the share of running tasks that still run then
    load = busy * staying + rate * run * (1 - staying)

    slots = seen.ready_replicas * spec.slots_per_replica
    patience = PATIENCE_SHARE * target
    soon = max(0, slots - busy) + slots * patience / run
    drain = max(target - ahead, DRAIN_SHARE * min(startup, target))
    backlog = max(0.0, ready - soon) / (1 + drain / run)

    # Square-root staffing (none for a lone task), or what keeps P(wait > target) of M/M/c small, where that is less.
    spare = max(math.sqrt(max(0.0, load + backlog - 1)), SPARE_SHARE * load)
    safety = min(spare, run / target * math.log(1 / LATE_SHARE))
    kept = min(slots, ready * run / (KEEPING_SHARE * patience))  # nobody goes whom the waiting tasks need
    backlog = max(backlog, kept - load - safety)
    return Terms(
        run_seconds=run,
        startup_seconds=startup,
        arrivals_per_second=rate,
        load_slots=load,
        backlog_slots=backlog,
        safety_slots=safety,
        wait_seconds=(ready * run / slots if slots else None) if ready else 0.0,
        need_replicas=_to_replicas(load + backlog + safety, spec),
    )


def _to_replicas(slots: float, spec: ScalingSpec) -> int:
    return max(0, math.ceil(slots / spec.slots_per_replica - ROUNDING_SLACK))


def _hold(seen: Observation, spec: ScalingSpec, memory: Memory, terms: Terms, has_tasks: bool, depth: int) -> Decision:
    """From the need to replicas: classic rule, idle time, holds, dead band, busy workers."""
    need, load = terms.need_replicas, _to_replicas(terms.load_slots + terms.safety_slots, spec)
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
    startup = terms.startup_seconds
    load_hold = min(max(LOAD_HOLD_STARTUPS * startup, LOAD_HOLD_MIN_SECONDS), LOAD_HOLD_MAX_SECONDS)
    backlog_hold = min(BACKLOG_HOLD_STARTUPS * startup, BACKLOG_HOLD_MAX_SECONDS)
    needs = push_high(memory.needs, seen.at, need, backlog_hold)
    loads = push_high(memory.loads, seen.at, load, load_hold)
    memory = replace(memory, needs=needs, loads=loads)
    held = max(needs[0][1], loads[0][1])
    if need >= seen.replicas:
        terms = replace(terms, need_replicas=need, held_replicas=need)
        return explain_need(seen, spec, memory, terms, depth, idle_for)
    terms = replace(terms, need_replicas=need, held_replicas=held)
    if held and held > seen.replicas - max(1.0, DEAD_BAND_SHARE * seen.replicas):
        reason = f"needs {need}, held at {seen.replicas} until the lower need has lasted {load_hold:.0f} s"
        return Decision(seen.replicas, Cause.HELD, reason, terms, memory)
    floor = get_busy_floor(seen, spec, terms.run_seconds)
    if held < floor:
        reason = f"needs {held}, but {floor} workers are busy with tasks that may outlive the grace period"
        return Decision(floor, Cause.BUSY, reason, terms, memory)
    if not held:
        reason = f"no task for {idle_for:.0f} s (idleSeconds {spec.idle_seconds:g})"
        return Decision(0, Cause.IDLE, reason, terms, memory)
    return explain_need(seen, spec, memory, terms, depth, idle_for)
