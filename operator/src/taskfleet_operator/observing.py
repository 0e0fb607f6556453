"""From what Kubernetes and brokers tell to what a decision needs to know. Pure."""

from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from taskfleet_core.document_model import DocumentModel
from taskfleet_core.events import Heartbeat
from taskfleet_core.statistics import ReadProblem, Trouble
from taskfleet_core.worker_ends import explain_worker_end
from taskfleet_operator.names import CONTAINER, Reason
from taskfleet_operator.observed import PodFacts

__all__ = [
    "build_pod_facts",
    "explain_invalid",
    "explain_problem",
    "explain_unknown",
    "find_condition_message",
    "parse_document",
    "parse_time",
    "select_beats",
]

EX_CONFIG = 78  # the exit code of a loader that refuses the app
REFUSAL_PREFIX = "taskfleet: "

Manifest = dict[str, Any]
Document = TypeVar("Document", bound=DocumentModel)


def parse_document(model: type[Document], raw: Manifest) -> tuple[Document, tuple[str, ...]]:
    """What the API server has, as model, and the fields of it that the model does not know.

    A CRD prunes what it does not know itself: such fields are those of a newer one, which an upgrade brings first and a
    rollback leaves behind, with its defaults in every object. Raises pydantic's ValidationError for anything else
    (an older CRD may have let something through).
    """
    document = {key: raw[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in raw}
    try:
        return model.model_validate(document), ()
    except ValidationError as error:
        found = model.model_validate(document, extra="ignore")
        unknown = [item["loc"] for item in error.errors() if item["type"] == "extra_forbidden"]
        return found, tuple(".".join(map(str, place)) for place in unknown)


def explain_unknown(fields: tuple[str, ...]) -> str:
    """For the message of a condition."""
    return f"this operator is older than the CRD and ignores {', '.join(fields)}"


def explain_invalid(error: ValidationError) -> str:
    """The first problems of a spec in words, each with its field."""
    parts = [f"{'.'.join(str(place) for place in item['loc'])}: {item['msg']}" for item in error.errors()[:3]]
    return "; ".join(parts)


def parse_time(text: str) -> datetime:
    """RFC 3339 as Kubernetes writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def build_pod_facts(pod: Manifest) -> PodFacts:
    """What matters of a pod."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or ()}
    container = _find_container(status)
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    cost = (metadata.get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost")
    return PodFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        created_at=parse_time(metadata["creationTimestamp"]),
        is_ready=conditions.get("Ready") == "True",
        is_terminating="deletionTimestamp" in metadata or status.get("phase") in {"Succeeded", "Failed"},
        has_ended=status.get("phase") in {"Succeeded", "Failed"},
        deletion_cost=int(cost) if cost else None,
        waiting_reason=waiting.get("reason"),
        waiting_message=waiting.get("message"),
        restarts=container.get("restartCount", 0),
        last_exit_message=_explain_exit(ended),
        refusal=_find_refusal(ended),
        unscheduled=find_condition_message(status, "PodScheduled", "False"),
    )


def select_beats(
    beats: tuple[Heartbeat, ...] | None, pods: tuple[PodFacts, ...], *, has_namesakes: bool
) -> tuple[Heartbeat, ...] | None:
    """Heartbeats go by the queue's name: where another broker has a queue of that name, those of the own pods."""
    if beats is None or not has_namesakes:
        return beats
    uids = {pod.uid for pod in pods}
    return tuple(beat for beat in beats if beat.get("pod_uid") in uids)


def find_condition_message(object_status: Manifest | None, kind: str, status: str) -> str | None:
    """What the condition of this type says while it has this status ("True", "False"); None while it has another."""
    for item in (object_status or {}).get("conditions") or ():
        if item["type"] == kind and item["status"] == status:
            return str(item.get("message") or item.get("reason"))
    return None


def _find_container(status: Manifest) -> Manifest:
    """The status of the worker's container; sidecars of the user's may come before it."""
    found: Manifest = next((item for item in status.get("containerStatuses") or () if item["name"] == CONTAINER), {})
    return found


def _find_refusal(ended: Manifest) -> str | None:
    """What the injected loader said when it would not run the app."""
    if ended.get("exitCode") != EX_CONFIG:
        return None
    lines = [line for line in (ended.get("message") or "").splitlines() if line.startswith(REFUSAL_PREFIX)]
    return lines[-1].removeprefix(REFUSAL_PREFIX).strip() if lines else None


def _explain_exit(ended: Manifest) -> str | None:
    code = ended.get("exitCode")
    if not ended or code == 0:
        return None
    if ended.get("reason") == "OOMKilled":
        return "out of memory: raise spec.worker.resources.limits.memory"
    message = (ended.get("message") or "").strip()
    if "executable file not found" in message:
        return "the image has no command `celery`: install Celery 5.5 or newer in it, on the PATH"
    last = explain_worker_end(message)
    return f"exit code {code}: {last}" if last else f"exit code {code}"


def explain_problem(problem: ReadProblem | None, where: str, *, is_new: bool = False) -> tuple[Reason, str]:
    """Why there are no figures and what mends it; `where` is where the credentials are corrected.

    Of a new queue the broker has no figures yet.
    """
    if problem is None:
        return Reason.STATISTICS_PENDING, "the broker has not been read yet"
    if problem.kind is Trouble.MISSING and is_new:
        return Reason.STATISTICS_PENDING, "the broker has no figures of the new queue yet"
    held = "replicas are held"
    if problem.kind is Trouble.REFUSED:
        return Reason.BROKER_CREDENTIALS_REFUSED, f"{problem.detail}: correct user and password in {where}; {held}"
    if problem.kind is Trouble.MISSING:
        return Reason.QUEUE_MISSING, f"{problem.detail}: it is being declared; {held}"
    if problem.kind is Trouble.UNREACHABLE:
        fix = f"check that the broker runs and that {where} names it"
        return Reason.BROKER_UNREACHABLE, f"{problem.detail}: {fix}; {held}"
    return Reason.STATISTICS_UNREADABLE, f"{problem.detail}; {held}"
