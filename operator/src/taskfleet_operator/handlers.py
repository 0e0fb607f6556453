"""The kopf side: it only keeps copies of the TaskQueues and enqueues their keys. No finalizers, no annotations."""

from collections.abc import Callable
from typing import Any

import kopf

from taskfleet_core.taskqueue import GROUP
from taskfleet_operator.reconciling import Reconciler, get_key

__all__ = ["build_registry", "build_settings"]


def build_registry(reconciler: Reconciler, enqueue: Callable[[str], None]) -> kopf.OperatorRegistry:
    """Handlers for one operator. The registry is explicit, so that two operators can live in one process."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, "v1alpha1", "taskqueues", registry=registry)
    def on_task_queue(type: str | None, body: kopf.Body, **_: Any) -> None:
        raw = dict(body)
        key = get_key(raw)
        if type == "DELETED":
            # What shared the queue with it may serve it now.
            for rival in reconciler.forget(key):
                enqueue(rival)
            return
        if reconciler.remember(key, raw):
            enqueue(key)

    return registry


def build_settings() -> kopf.OperatorSettings:
    """kopf as a watcher: nothing posted, nothing stored, no peering (the Lease decides who acts).

    `queueing.worker_limit` stays unset: below the number of objects it starves handlers without a word.
    """
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True  # least rights: list and watch of TaskQueues suffice
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 320
    settings.networking.request_timeout = 30
    return settings
