"""A decision in one sentence. Pure."""

from taskfleet_core.scaling.model import Cause, Decision, Memory, Observation, ScalingSpec, Terms

__all__ = ["explain_need"]

NO_ARRIVALS_PER_SECOND = 0.01


def explain_need(
    seen: Observation, spec: ScalingSpec, memory: Memory, terms: Terms, depth: int, idle_for: float
) -> Decision:
    """The decision to have the replicas that are needed, with the term that weighs most as its reason."""
    replicas = terms.held_replicas
    if spec.target_queue_depth is not None:
        reason = f"{depth} tasks at {spec.target_queue_depth} a replica"
        return Decision(replicas, Cause.DEPTH, reason, terms, memory)
    if not depth and not terms.arrivals_per_second > NO_ARRIVALS_PER_SECOND:
        if not replicas:
            return Decision(0, Cause.IDLE, "no tasks", terms, memory)
        reason = f"no task for {idle_for:.0f} s, the last replica stays {spec.idle_seconds:g} s"
        return Decision(replicas, Cause.HELD, reason, terms, memory)
    if terms.backlog_slots > terms.load_slots:
        waiting = "1 waiting task" if seen.ready == 1 else f"{seen.ready} waiting tasks"
        reason = f"{waiting} of {terms.run_seconds:.2g} s shall start within {spec.target_wait_seconds:g} s"
        return Decision(replicas, Cause.BACKLOG, reason, terms, memory)
    backlog = f" + {terms.backlog_slots:.1f} for the {seen.ready} waiting" if terms.backlog_slots else ""
    reason = (
        f"{terms.arrivals_per_second:.2g} tasks/s of {terms.run_seconds:.2g} s: "
        f"{terms.load_slots:.1f} busy slots{backlog} + {terms.safety_slots:.1f} spare"
    )
    return Decision(replicas, Cause.LOAD, reason, terms, memory)
