"""What no need may overrule: minimum, maximum and pin, the pace of change, workers that must not leave. Pure."""

from dataclasses import replace

from taskfleet_core.scaling.model import Cause, Decision, Observation, Pace, ScalingSpec, Window

__all__ = ["get_busy_floor", "keep_bounds", "keep_pace", "push_high"]

SLOW_TASK_SHARE = 0.001  # more slow tasks than this make a busy worker a bad victim


def keep_bounds(spec: ScalingSpec, decision: Decision) -> Decision:
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


def keep_pace(seen: Observation, spec: ScalingSpec, decision: Decision) -> Decision:
    """Apply scaleUp and scaleDown: counted from the fewest and the most replicas of the last period."""
    memory = decision.memory
    if memory is None or (spec.scale_up is None and spec.scale_down is None):
        return decision
    up, down = spec.scale_up, spec.scale_down
    if up:
        memory = replace(memory, lows=_push_low(memory.lows, seen.at, seen.replicas, up.period_seconds))
    if down:
        memory = replace(memory, highs=push_high(memory.highs, seen.at, seen.replicas, down.period_seconds))
    decision = replace(decision, memory=memory)
    if up and decision.replicas > seen.replicas:
        most = max(seen.replicas, memory.lows[0][1] + up.replicas)
        if decision.replicas > most:
            return _pace(decision, most, "scaleUp", up)
    if down and decision.replicas < seen.replicas:
        fewest = min(seen.replicas, memory.highs[0][1] - down.replicas)
        if decision.replicas < fewest:
            return _pace(decision, fewest, "scaleDown", down)
    return decision


def _pace(decision: Decision, replicas: int, field: str, pace: Pace) -> Decision:
    allowed = f"{field} allows {pace.replicas} in {pace.period_seconds:g} s"
    reason = f"{allowed} (the rule wants {decision.replicas}: {decision.reason})"
    return replace(decision, replicas=replicas, cause=Cause.PACED, reason=reason)


def get_busy_floor(seen: Observation, spec: ScalingSpec, run_seconds: float) -> int:
    """Workers that must stay although fewer are needed: those whose tasks would be killed by leaving."""
    safe = spec.grace_seconds >= spec.max_task_seconds
    slow = run_seconds > spec.grace_seconds or seen.slow_share is None or seen.slow_share > SLOW_TASK_SHARE
    if safe or not slow or seen.idle_replicas is None:
        return 0
    starting = max(0, seen.replicas - seen.ready_replicas)
    return max(0, seen.replicas - seen.idle_replicas - starting)


def push_high(window: Window, at: float, value: int, length: float) -> Window:
    """Add a value; the first one left is the largest of the last `length` seconds."""
    kept = tuple(item for item in window if item[1] > value and item[0] >= at - length)
    return (*kept, (at, value))


def _push_low(window: Window, at: float, value: int, length: float) -> Window:
    kept = tuple(item for item in window if item[1] < value and item[0] >= at - length)
    return (*kept, (at, value))
