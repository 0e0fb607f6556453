"""TaskQueues for tests against a real API server."""

from typing import Any

from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually_sync

__all__ = ["API", "await_later_creation", "build_task_queue", "create", "merge", "queue_path"]

API = "taskfleet.dev/v1alpha1"


def build_task_queue(namespace: str, name: str = "thumbnails", **spec: Any) -> dict[str, Any]:
    """The smallest TaskQueue; `spec` is merged into its spec, None takes a field out."""
    worker = {"image": "registry.example/thumbs:1.4", "app": "thumbs.celery:app"}
    return {
        "apiVersion": API,
        "kind": "TaskQueue",
        "metadata": {"name": name, "namespace": namespace},
        "spec": merge({"worker": worker}, spec),
    }


def merge(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A JSON merge patch, applied."""
    merged = dict(base)
    for key, value in patch.items():
        if isinstance(value, dict):
            old = merged.get(key)
            merged[key] = merge(old if isinstance(old, dict) else {}, value)
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def queue_path(namespace: str, name: str = "", subresource: str = "") -> str:
    """URL path of TaskQueues, one of them, or its subresource."""
    path = f"/apis/{API}/namespaces/{namespace}/taskqueues"
    return "/".join([path, *(part for part in (name, subresource) if part)])


def create(plane: ControlPlane, queue: dict[str, Any]) -> dict[str, Any]:
    """Create a TaskQueue; returns it as the API server has it."""
    return plane.request("POST", queue_path(queue["metadata"]["namespace"]), queue)


def await_later_creation(plane: ControlPlane, namespace: str, name: str) -> None:
    """Wait until what is created now counts as newer than a TaskQueue: creation times are whole seconds."""
    created = plane.request("GET", queue_path(namespace, name))["metadata"]["creationTimestamp"]

    def is_later() -> bool:
        probe = build_task_queue(namespace, "later")
        made = plane.request("POST", queue_path(namespace) + "?dryRun=All", probe)
        return bool(made["metadata"]["creationTimestamp"] > created)

    eventually_sync(is_later, 40)
