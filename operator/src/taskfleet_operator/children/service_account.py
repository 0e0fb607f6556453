"""The ServiceAccount of the workers: an identity without any right."""

from typing import Any

from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.children.metadata import build_child_metadata

__all__ = ["build_service_account"]


def build_service_account(queue: TaskQueue) -> dict[str, Any]:
    """Workers never talk to Kubernetes: no token is mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": build_child_metadata(queue),
        "automountServiceAccountToken": False,
    }
