"""The conditions of a TaskQueue: what holds, why, and how to mend it. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from taskfleet_core.scaling import Cause, Decision
from taskfleet_core.statistics import QueueStatistics
from taskfleet_operator.names import ConditionType, Reason
from taskfleet_operator.observed import Observed, PodFacts, UserState
from taskfleet_operator.observing import explain_unknown, find_condition_message

__all__ = ["build_conditions", "build_failed_status", "find_unhealthy", "merge_conditions"]

IMAGE_REASONS = {"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"}
REFUSED_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
CRASH_REASONS = {"CrashLoopBackOff"}
BROKER_REASONS = {Reason.BROKER_UNREACHABLE, Reason.BROKER_CREDENTIALS_REFUSED}
CRASHES = 2  # a worker that runs between two crashes is no healthy one

Manifest = dict[str, Any]
Verdict = tuple[str, Reason, str]  # status, reason, message
Kind = TypeVar("Kind", bound=StrEnum)


def build_conditions(
    observed: Observed, decision: Decision | None, mode: Reason, now: datetime
) -> list[dict[str, Any]]:
    """All conditions, in a stable order, with the transition times of those that did not change."""
    metrics = _judge_metrics(observed)
    workers = _judge_workers(observed)
    wanted: dict[ConditionType, Verdict] = {
        ConditionType.READY: _judge_ready(observed, metrics, workers),
        ConditionType.METRICS_AVAILABLE: metrics,
        ConditionType.SCALING_ACTIVE: _judge_scaling(observed, mode, decision),
        ConditionType.SCALING_LIMITED: _judge_limits(decision),
        ConditionType.WORKERS_HEALTHY: workers,
    }
    if observed.user is not None:
        wanted[ConditionType.BROKER_USER_READY] = _judge_user(observed.user)
    generation = observed.raw.get("metadata", {}).get("generation")
    earlier = (observed.raw.get("status") or {}).get("conditions") or []
    return merge_conditions(earlier, wanted, generation, now)


def merge_conditions(
    earlier: list[dict[str, Any]], wanted: Mapping[Kind, Verdict], generation: int | None, now: datetime
) -> list[dict[str, Any]]:
    """Keep `lastTransitionTime` where the status stays."""
    before = {condition["type"]: condition for condition in earlier}
    result = []
    for kind, (status, reason, message) in wanted.items():
        old = before.get(kind)
        same = old is not None and old["status"] == status and old.get("lastTransitionTime")
        result.append(
            {
                "type": str(kind),
                "status": status,
                "reason": str(reason),
                "message": message,
                "lastTransitionTime": old["lastTransitionTime"] if old and same else format_time(now),
                "observedGeneration": generation,
            }
        )
    return result


def build_failed_status(raw: Manifest, status: Manifest, reason: Reason, message: str, now: datetime) -> Manifest:
    """`status` with `Ready=False` for this reason. `raw` is the TaskQueue as read, with the condition before."""
    earlier = (raw.get("status") or {}).get("conditions") or []
    generation = raw["metadata"].get("generation")
    ready = merge_conditions(earlier, {ConditionType.READY: ("False", reason, message)}, generation, now)
    others = [item for item in status.get("conditions") or () if item["type"] != ConditionType.READY]
    return {**status, "conditions": [*ready, *others]}


def format_time(moment: datetime) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _judge_ready(observed: Observed, metrics: Verdict, workers: Verdict) -> Verdict:
    if observed.conflict_with:
        fix = f"the older TaskQueue {observed.conflict_with} serves this queue: delete one, or set another queueName"
        return "False", Reason.QUEUE_CONFLICT, fix
    if observed.credentials is None and observed.user is None:
        return "False", Reason.BROKER_SECRET_UNREADABLE, observed.credentials_error or "the broker secret is missing"
    if metrics[0] == "False" and metrics[1] in BROKER_REASONS:
        return metrics
    if observed.topology_error:
        return "False", Reason.QUEUE_UNAVAILABLE, observed.topology_error
    if not observed.topology_ready:
        return "False", Reason.QUEUE_PENDING, "the queue is being declared at the broker; workers start after that"
    if observed.credentials is None and observed.user is not None:
        _, why, message = _judge_user(observed.user)
        return "False", why, message
    for status, reason, message in (metrics, workers):
        if status == "False":
            return status, reason, message
    message = "; ".join(observed.degradations) or "queue, workers and scaling are in place"
    if observed.unknown_fields:
        message += f"; {explain_unknown(observed.unknown_fields)}"
    return "True", Reason.QUEUE_DEGRADED if observed.degradations else Reason.RECONCILED, message


def _judge_user(user: UserState) -> Verdict:
    """The queue's own broker user. Without it nobody else's is handed out: workers keep the one that they have."""
    kept = "workers go on as the user that they have, and none starts without"
    if user.error and user.is_refused:
        fix = "the operator's TASKFLEET_OPERATOR_BROKER_USERS_URL needs the login of an administrator of the broker"
        return "False", Reason.BROKER_USER_REFUSED, f"{user.error}: {fix}; {kept}"
    if user.error:
        return "False", Reason.BROKER_USER_UNAVAILABLE, f"{user.error}; {kept}"
    if not user.is_ready:
        return "Unknown", Reason.BROKER_USER_PENDING, f"the broker user {user.name} is being made; {kept}"
    return "True", Reason.BROKER_USER_MADE, "; ".join((f"workers log in as {user.name}", *user.notes))


def _judge_metrics(observed: Observed) -> Verdict:
    if observed.statistics is None:
        detail = observed.statistics_error or "the broker's queue statistics cannot be read; replicas are held"
        reason = Reason(observed.statistics_reason or Reason.STATISTICS_UNREADABLE)
        return "Unknown" if reason is Reason.STATISTICS_PENDING else "False", reason, detail
    gaps = "; ".join(_find_gaps(observed, observed.statistics))
    if gaps:
        return "True", Reason.PARTIAL, gaps
    return "True", Reason.STATISTICS_FRESH, "queue depth and heartbeats are fresh"


def _find_gaps(observed: Observed, figures: QueueStatistics) -> Iterator[str]:
    """What the rule has to do without, and what it does instead."""
    if observed.heartbeats is None:
        yield "the workers' heartbeats cannot be read: depth alone decides, and nobody leaves"
    elif observed.silent:
        yield f"{len(observed.silent)} of {len(observed.pods)} workers are silent: they count as busy"
    if figures.unacknowledged is None:
        yield "the broker tells waiting tasks only: those in hand are told by heartbeats"
    if figures.published is None:
        yield "the broker counts no publications of a queue: arrivals are told from depth and completions"
    if figures.is_stale:
        fix = "set its collect_statistics_interval and quorum_tick_interval to 1000 and let metricsUrl be reached"
        yield f"the broker's figures may be some seconds old: {fix}"


def _judge_scaling(observed: Observed, mode: Reason, decision: Decision | None) -> Verdict:
    metadata = observed.queue.metadata
    resume = f"kubectl patch tq {metadata.name} -n {metadata.namespace} --type merge -p "
    texts = {
        Reason.PAUSED: "paused by the annotation taskfleet.dev/paused: remove it to resume",
        Reason.PINNED: "fixed by spec.scaling.replicas: to resume run "
        + resume
        + """'{"spec":{"scaling":{"replicas":null}}}'""",
        Reason.DRY_RUN: "mode DryRun: decisions are reported and not carried out",
        Reason.EXTERNAL: "mode External: something else scales the Deployment",
    }
    if mode in texts:
        return "False", mode, texts[mode]
    if decision is None:
        return "False", Reason.QUEUE_CONFLICT, "nothing is decided while the TaskQueue is not Ready"
    if decision.cause is Cause.UNKNOWN:
        return "False", Reason.STATISTICS_UNREADABLE, decision.reason
    return "True", Reason.SCALING, decision.reason


def _judge_limits(decision: Decision | None) -> Verdict:
    if decision is not None and decision.cause is Cause.FLEET:
        return "True", Reason.FLEET_LIMIT, decision.reason
    if decision is not None and decision.cause is Cause.MAXIMUM:
        return "True", Reason.AT_MAXIMUM, decision.reason
    if decision is not None and decision.cause is Cause.MINIMUM:
        return "True", Reason.AT_MINIMUM, decision.reason
    return "False", Reason.WITHIN_LIMITS, "the wanted replicas are within minReplicas and maxReplicas"


def _judge_workers(observed: Observed) -> Verdict:
    beating = {beat.get("pod_uid") for beat in observed.heartbeats or ()}
    broken = find_unhealthy(tuple(pod for pod in observed.pods if pod.uid not in beating))
    if broken is not None:
        return "False", *broken
    alive = [pod for pod in observed.pods if not pod.is_terminating]
    # A quota, a limit, an admission webhook: then Kubernetes makes no pods for the Deployment.
    refusal = find_condition_message((observed.deployment or {}).get("status"), "ReplicaFailure", "True")
    if not alive:
        return _judge_missing(observed, refusal)
    more = f"; no further pod: {refusal}" if refusal else ""
    unscheduled = next((pod.unscheduled for pod in alive if pod.unscheduled), None)
    if unscheduled:
        more = f"; no node takes a pod: {unscheduled}"
    starting = sum(not pod.is_ready for pod in alive)
    if starting == len(alive):
        return "Unknown", Reason.WORKERS_STARTING, f"{starting} workers are starting{more}"
    return "True", Reason.WORKERS_RUNNING, f"{len(alive) - starting} of {len(alive)} workers run{more}"


def _judge_missing(observed: Observed, refusal: str | None) -> Verdict:
    """When there is no pod: none is wanted, it is still to come, or Kubernetes makes none."""
    deployment = observed.deployment
    wanted = int(deployment["spec"].get("replicas", 0)) if deployment else 0
    if not wanted:
        return "True", Reason.NO_WORKERS_NEEDED, "no worker is wanted"
    if refusal:
        return (
            "False",
            Reason.WORKERS_REFUSED,
            f"{refusal}: raise the quota or limit, or lower spec.scaling.maxReplicas",
        )
    return "Unknown", Reason.WORKERS_STARTING, f"{wanted} workers are asked for, none exists yet"


def find_unhealthy(pods: tuple[PodFacts, ...]) -> tuple[Reason, str] | None:
    """The first thing that keeps a worker from running, with the fix. `pods` are those without a heartbeat."""
    for pod in pods:
        if pod.is_terminating:
            continue
        if pod.refusal:
            return Reason.APP_REFUSED, f"{pod.refusal} (pod {pod.name})"
        if pod.waiting_reason is None:
            if pod.last_exit_message and (pod.restarts >= CRASHES or not pod.is_ready):
                return Reason.WORKERS_CRASHING, _explain_crash(pod)
            continue
        detail = pod.waiting_message or pod.waiting_reason
        if pod.waiting_reason in IMAGE_REASONS:
            return Reason.IMAGE_PULL_FAILED, f"{detail} (pod {pod.name}): check spec.worker.image and pull secrets"
        if pod.waiting_reason in REFUSED_REASONS:
            return Reason.WORKERS_REFUSED, f"{detail} (pod {pod.name}): check spec.worker.env, envFrom and template"
        if pod.waiting_reason in CRASH_REASONS:
            return Reason.WORKERS_CRASHING, _explain_crash(pod)
    return None


def _explain_crash(pod: PodFacts) -> str:
    last = f": {pod.last_exit_message}" if pod.last_exit_message else ""
    return f"pod {pod.name} restarts{last}; see kubectl logs {pod.name} --previous"
