"""A limit on the worker processes of all queues together, shared as the operator shares pods. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from taskfleet.local.controlling import QueueController
from taskfleet_core.fleet import Limit, Member, share
from taskfleet_core.scaling import Cause, Decision

__all__ = ["limit_workers"]


def limit_workers(
    maximum: int, controllers: Mapping[str, QueueController], decisions: Mapping[str, Decision]
) -> dict[str, Decision]:
    """What `maximum` workers in all leave of the decisions, by queue."""
    members = {name: _build_member(controller, decisions[name]) for name, controller in controllers.items()}
    shares = share([Limit("all", maximum, tuple(members))], members)
    result = dict(decisions)
    for name, got in shares.items():
        wanted = decisions[name].replicas
        if got.replicas < wanted:
            held = sum(member.held for member in members.values())
            reason = f"--max-workers {maximum} allows {got.replicas} of {wanted} workers: all queues hold {held}"
            reason += f"; the rule says: {decisions[name].reason}"
            result[name] = replace(decisions[name], replicas=got.replicas, cause=Cause.FLEET, reason=reason)
    return result


def _build_member(controller: QueueController, decision: Decision) -> Member:
    scaling = controller.queue.spec.scaling
    return Member(
        group="",
        wanted=decision.replicas,
        guaranteed=scaling.min_replicas if scaling.replicas is None else scaling.replicas,
        priority=scaling.priority,
        replicas=len(controller.pool.staying),
        leaving=len(controller.pool.draining),
        scales=controller.scales and not controller.leaving and decision.cause is not Cause.UNKNOWN,
    )
