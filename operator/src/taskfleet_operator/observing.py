"""Puts together what one reconcile sees. Reads copies that watches and polls keep; asks the API server for nothing
but a broker secret of the user's."""

import base64
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.observed import PodFacts

__all__ = ["build_pod_facts", "decode_secret", "explain_invalid", "parse_queue", "parse_time"]

Manifest = dict[str, Any]


def parse_queue(raw: Manifest) -> TaskQueue:
    """The TaskQueue as model. Raises pydantic's ValidationError (an older CRD may have let something through)."""
    return TaskQueue.model_validate({key: raw[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in raw})


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
    containers = status.get("containerStatuses") or [{}]
    state = containers[0].get("state") or {}
    waiting = state.get("waiting") or {}
    ended = (containers[0].get("lastState") or {}).get("terminated") or {}
    cost = (metadata.get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost")
    return PodFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        created_at=parse_time(metadata["creationTimestamp"]),
        is_ready=conditions.get("Ready") == "True",
        is_terminating="deletionTimestamp" in metadata or status.get("phase") in {"Succeeded", "Failed"},
        deletion_cost=int(cost) if cost else None,
        waiting_reason=waiting.get("reason"),
        waiting_message=waiting.get("message"),
        restarts=containers[0].get("restartCount", 0),
        last_exit_message=_explain_exit(ended),
    )


def _explain_exit(ended: Manifest) -> str | None:
    if not ended:
        return None
    if ended.get("reason") == "OOMKilled":
        return "out of memory: raise spec.worker.resources.limits.memory"
    return f"exit code {ended.get('exitCode')}"


def decode_secret(secret: Manifest, key: str) -> str | None:
    """One value of a Secret, or None when it is not there or no text."""
    try:
        return base64.b64decode((secret.get("data") or {})[key], validate=True).decode()
    except (KeyError, ValueError):
        return None
