"""From what was observed to what shall be written. Pure: no await, no clock, no logger, no client."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from taskfleet_core.scaling import Cause, Decision, Observation, ScalingSpec, decide
from taskfleet_core.schedules import apply_schedules
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.children.deployment import build_deployment
from taskfleet_operator.children.disruption_budget import build_disruption_budget
from taskfleet_operator.children.secret import build_secret
from taskfleet_operator.children.service_account import build_service_account
from taskfleet_operator.conditions import build_conditions, format_time
from taskfleet_operator.names import PAUSED, Reason, get_selector_text
from taskfleet_operator.observed import Credentials, EventToSend, Observed, Plan, ScaleStep
from taskfleet_operator.victims import build_costs, select_victims

__all__ = ["ChildBuilder", "Children", "Limiter", "build_children", "build_plan", "get_replicas", "is_acting"]

# What limits of several TaskQueues make of a decision; the last argument says whether it will be carried out.
Limiter = Callable[[Observed, Decision, ScalingSpec, bool], Decision]
Children = tuple[dict[str, Any], ...]
ChildBuilder = Callable[[TaskQueue, Credentials, str], Children]

# Looked at again after this time although nothing changed: idle time passes without an event.
REQUEUE_SECONDS = 1.0
# Schedules fire, and Secrets of brokers get another content, without an event too.
QUIET_REQUEUE_SECONDS = 15.0
PENDING = (Reason.QUEUE_PENDING, Reason.BROKER_USER_PENDING)  # no faults: they pass by themselves
MISSING_SECRET_SECONDS = 2.0  # somebody is about to make it, most likely


@dataclass(frozen=True, slots=True)
class _Change:
    """The replica side of a plan."""

    fence: tuple[str, ...] = ()
    unfence: tuple[str, ...] = ()
    scale: ScaleStep | None = None
    note: str = ""  # what keeps pods that are too many from leaving yet


def build_plan(
    observed: Observed,
    injection: str,
    now: datetime,
    at: float,
    limit: Limiter | None = None,
    build: ChildBuilder | None = None,
) -> Plan:
    """Everything that one reconcile writes. `at` is a monotonic clock in seconds, `now` the time for people. `build`
    is `build_children`, or somebody who remembers what that made."""
    if observed.conflict_with or observed.credentials is None:
        return _build_refusal(observed, now)
    children = (build or build_children)(observed.queue, observed.credentials, injection)
    mode = _get_mode(observed)
    scaling = observed.queue.spec.scaling
    spec = apply_schedules(observed.queue.build_scaling_spec(), scaling.schedules, now)
    decision = _hold_unknown(observed, decide(_observe_scaling(observed, at), spec, observed.memory))
    acts = is_acting(observed)
    if limit is not None:
        decision = limit(observed, decision, spec, acts)
    change = _change_replicas(observed, decision) if acts else _Change()
    told = replace(decision, reason=f"{decision.reason}; {change.note}") if change.note else decision
    status = _build_status(observed, told, mode, change.scale, now)
    return Plan(
        apply=children,
        fence=change.fence,
        unfence=change.unfence,
        scale=change.scale,
        status=status,
        events=(*_build_events(observed, decision, change.scale), *_warn(observed, status)),
        memory=decision.memory,
        decision=decision,
        requeue_after_seconds=_get_pause(observed, decision),
    )


def _build_refusal(observed: Observed, now: datetime) -> Plan:
    """A TaskQueue that may not act: its workers, if any, stay as they are."""
    conditions = build_conditions(observed, None, Reason.SCALING, now)
    ready = conditions[0]
    status = {**_counts(observed), "conditions": conditions}
    events = () if ready["reason"] in PENDING else (EventToSend("Warning", ready["reason"], ready["message"]),)
    pause = MISSING_SECRET_SECONDS if observed.credentials is None else None
    return Plan(status=status, events=events, memory=observed.memory, requeue_after_seconds=pause)


def build_children(queue: TaskQueue, credentials: Credentials, injection: str) -> Children:
    """All children of a TaskQueue, in the order in which they are made."""
    budget = build_disruption_budget(queue)
    return (
        build_service_account(queue),
        build_secret(queue, credentials),
        build_deployment(queue, injection=injection, credentials=credentials),
        *((budget,) if budget else ()),
    )


def is_acting(observed: Observed) -> bool:
    """Whether decisions about its workers are carried out, not only reported."""
    return _get_mode(observed) in {Reason.SCALING, Reason.PINNED}


def _get_mode(observed: Observed) -> Reason:
    if observed.queue.metadata.annotations.get(PAUSED, "").lower() in {"true", "1", "yes"}:
        return Reason.PAUSED
    scaling = observed.queue.spec.scaling
    modes = {"DryRun": Reason.DRY_RUN, "External": Reason.EXTERNAL}
    if scaling.mode in modes:
        return modes[scaling.mode]
    return Reason.SCALING if scaling.replicas is None else Reason.PINNED


def _observe_scaling(observed: Observed, at: float) -> Observation:
    statistics = observed.statistics
    beats = observed.heartbeats
    unacknowledged = statistics.unacknowledged if statistics else None
    if statistics and unacknowledged is None:
        # The last source tells of waiting messages only. What is in the workers' hands, they say themselves.
        unacknowledged = sum(beat["busy"] for beat in beats or ())
    return Observation(
        at=at,
        ready=statistics.ready if statistics else None,
        unacknowledged=unacknowledged,
        replicas=get_replicas(observed),
        ready_replicas=sum(beat["consuming"] for beat in beats) if beats is not None else _count_ready(observed),
        idle_replicas=sum(beat["consuming"] and not beat["busy"] for beat in beats) if beats is not None else None,
        busy_slots=sum(beat["busy"] for beat in beats) if beats is not None else None,
        published=statistics.published if statistics else None,
        completed=observed.completed,
        run_seconds_sum=observed.run_seconds_sum,
        slow_share=observed.slow_share,
        startup_seconds=observed.startup_seconds,
    )


def _hold_unknown(observed: Observed, decision: Decision) -> Decision:
    """Waiting tasks alone may ask for more workers, never for fewer."""
    figures, present = observed.statistics, get_replicas(observed)
    is_known = observed.heartbeats is not None or figures is None or figures.unacknowledged is not None
    if is_known or decision.replicas >= present or decision.cause is Cause.PINNED:
        return decision
    reason = f"what the workers hold is unknown: keeping {present}"
    return replace(decision, replicas=present, cause=Cause.UNKNOWN, reason=reason)


def get_replicas(observed: Observed) -> int:
    """Replicas that the Deployment was asked for; a Deployment that does not exist yet has none."""
    deployment = observed.deployment
    return int(deployment["spec"].get("replicas", 0)) if deployment else 0


def _count_ready(observed: Observed) -> int:
    return sum(pod.is_ready and not pod.is_terminating for pod in observed.pods)


def _change_replicas(observed: Observed, decision: Decision) -> _Change:
    deployment = observed.deployment
    present = get_replicas(observed)
    if deployment is None or decision.cause is Cause.UNKNOWN or decision.replicas == present:
        return _Change(unfence=tuple(observed.fenced))
    version = deployment["metadata"]["resourceVersion"]
    if decision.replicas > present:
        if not observed.topology_ready:
            return _Change(unfence=tuple(observed.fenced))  # a worker without its queue would only crash
        return _Change(unfence=tuple(observed.fenced), scale=ScaleStep(decision.replicas, version))
    return _shrink(observed, decision.replicas, present, version)


def _shrink(observed: Observed, wanted: int, present: int, version: str) -> _Change:
    """Fewer replicas: fence the victims, and remove each once it has stopped taking tasks and may leave."""
    alive = [pod for pod in observed.pods if not pod.is_terminating]
    if not alive:
        return _Change(unfence=tuple(observed.fenced), scale=ScaleStep(wanted, version))
    beats = observed.heartbeats
    if beats is None:
        return _Change(note="nobody leaves while heartbeats cannot be read")
    surplus = len(alive) - wanted
    if surplus <= 0:  # pods of the last change are still to come or on their way out
        return _Change(scale=ScaleStep(wanted, version)) if len(alive) < present else _Change()
    worker = observed.queue.spec.worker
    covered = worker.effective_grace_seconds >= worker.max_task_seconds
    if not covered and _is_rolling(observed) and (observed.silent or any(beat["busy"] for beat in beats)):
        # Deletion costs rank pods within one ReplicaSet only: with two, a busy pod might go.
        return _Change(note="no busy pod may leave during a rollout")
    chosen = select_victims(observed.pods, beats, surplus, observed.fenced, may_be_busy=covered, silent=observed.silent)
    fence = tuple(sorted(pod.uid for pod in chosen.victims))
    unfence = tuple(observed.fenced.difference(fence))
    if not chosen.leaving:
        return _Change(fence=fence, unfence=unfence, note=chosen.reason)
    costs = build_costs(alive, beats, chosen.leaving, observed.silent)
    step = ScaleStep(len(alive) - len(chosen.leaving), version, costs)
    return _Change(fence=fence, unfence=unfence, scale=step, note=chosen.reason)


def _is_rolling(observed: Observed) -> bool:
    """Whether pods of two templates exist."""
    deployment = observed.deployment or {}
    status = deployment.get("status") or {}
    generation = deployment.get("metadata", {}).get("generation", 0)
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    return bool(status.get("observedGeneration", generation) < generation or updated < total)


def _counts(observed: Observed) -> dict[str, Any]:
    statistics = observed.statistics
    beats = observed.heartbeats
    ready = sum(beat["consuming"] for beat in beats) if beats is not None else _count_ready(observed)
    return {
        "observedGeneration": observed.raw.get("metadata", {}).get("generation"),
        "replicas": sum(not pod.is_terminating for pod in observed.pods),
        "readyReplicas": ready,
        "selector": get_selector_text(observed.queue.name),
        "messages": {
            "ready": statistics.ready if statistics else None,
            "unacknowledged": statistics.unacknowledged if statistics else None,
        },
    }


def _build_status(
    observed: Observed, decision: Decision, mode: Reason, scale: ScaleStep | None, now: datetime
) -> dict[str, Any]:
    # What is not said here stays as it stands: a repetition from an older reading would undo the last scaling's note.
    status = {
        **_counts(observed),
        "desiredReplicas": decision.replicas,
        "conditions": build_conditions(observed, decision, mode, now),
    }
    if scale is not None and scale.replicas != get_replicas(observed):
        status |= {"lastScaleTime": format_time(now), "lastScaleReason": decision.reason}
    return {key: value for key, value in status.items() if value is not None}


def _build_events(observed: Observed, decision: Decision, scale: ScaleStep | None) -> tuple[EventToSend, ...]:
    present = get_replicas(observed)
    if scale is None or scale.replicas == present:
        return ()
    reason = Reason.SCALED_UP if scale.replicas > present else Reason.SCALED_DOWN
    return (EventToSend("Normal", reason, f"{present} -> {scale.replicas} replicas: {decision.reason}"),)


def _warn(observed: Observed, status: dict[str, Any]) -> tuple[EventToSend, ...]:
    """An event when something new is wrong; that a queue is still being declared is no fault."""
    ready = status["conditions"][0]
    earlier = (observed.raw.get("status") or {}).get("conditions") or []
    before = next((item["reason"] for item in earlier if item["type"] == ready["type"]), None)
    if ready["status"] != "False" or ready["reason"] in {before, *PENDING}:
        return ()
    return (EventToSend("Warning", ready["reason"], ready["message"]),)


def _get_pause(observed: Observed, decision: Decision) -> float | None:
    """When to look again although nothing happens: soon while time alone may change the outcome."""
    statistics = observed.statistics
    if statistics is None:
        return QUIET_REQUEUE_SECONDS  # what is held stays until the poller knows more, which brings the next look
    settled = decision.replicas == get_replicas(observed) == len(observed.pods) and not observed.fenced
    if statistics.ready or statistics.unacknowledged or not settled:
        return REQUEUE_SECONDS
    spec = observed.queue.spec
    if decision.replicas == 0:
        return QUIET_REQUEUE_SECONDS if spec.scaling.schedules or spec.broker else None
    return QUIET_REQUEUE_SECONDS if decision.cause in {Cause.MINIMUM, Cause.PINNED} else REQUEUE_SECONDS
