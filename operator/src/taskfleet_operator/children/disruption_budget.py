"""The PodDisruptionBudget, only if a percentage is asked for: it slows node drains, and the grace period already
protects what runs."""

from typing import Any

from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.children.metadata import build_child_metadata
from taskfleet_operator.names import MAX_UNAVAILABLE, build_selector

__all__ = ["build_disruption_budget"]


def build_disruption_budget(queue: TaskQueue) -> dict[str, Any] | None:
    """The budget, or None when the TaskQueue does not ask for one."""
    share = queue.metadata.annotations.get(MAX_UNAVAILABLE)
    if not share:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": build_child_metadata(queue),
        "spec": {"maxUnavailable": share, "selector": {"matchLabels": build_selector(queue.name)}},
    }
