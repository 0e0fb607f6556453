"""The metadata that all children share."""

from typing import Any

from taskfleet_core.taskqueue import API_VERSION, KIND, TaskQueue
from taskfleet_operator.names import build_labels, get_child_name

__all__ = ["build_child_metadata", "build_owner"]


def build_owner(queue: TaskQueue) -> dict[str, Any]:
    """The reference that lets Kubernetes delete a child with its TaskQueue, also while no operator runs."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": queue.name,
        "uid": queue.metadata.uid or "",
        "controller": True,
        "blockOwnerDeletion": False,
    }


def build_child_metadata(queue: TaskQueue) -> dict[str, Any]:
    """Name, namespace, labels and owner of a child."""
    return {
        "name": get_child_name(queue.name),
        "namespace": queue.metadata.namespace,
        "labels": {**queue.metadata.labels, **build_labels(queue.name)},
        "ownerReferences": [build_owner(queue)],
    }
