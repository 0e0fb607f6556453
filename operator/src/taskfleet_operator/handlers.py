"""The kopf side: it only keeps copies of the TaskQueues and enqueues their keys. No finalizers, no annotations."""

import asyncio
import dataclasses
import ssl
from collections.abc import Callable
from typing import Any

import kopf
import structlog

from taskfleet_core.errors import NotFoundError, TaskfleetError
from taskfleet_core.taskqueue import GROUP, KIND
from taskfleet_operator.indexing import get_key
from taskfleet_operator.kube import Kube
from taskfleet_operator.reconciling import Reconciler

__all__ = ["build_registry", "build_settings", "sweep_deleted", "wait_for_crd"]

CRD_WAIT_SECONDS = 2.0
SWEEP_SECONDS = 60.0

_log = structlog.get_logger()


class _Connection(kopf.ConnectionInfo):
    """Checks the server's certificate as the rest of the operator does: see `open_kube`."""

    def as_ssl_context(self) -> ssl.SSLContext:
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def build_registry(reconciler: Reconciler, enqueue: Callable[[str], None]) -> kopf.OperatorRegistry:
    """Handlers for one operator. The registry is explicit, so that two operators can live in one process."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        found = kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
        if found is None:
            return None
        return _Connection(**{field.name: getattr(found, field.name) for field in dataclasses.fields(found)})

    # A coroutine: kopf runs a plain function in a thread, and neither the index nor the work queue bears that. A key
    # that was added while the dispatcher looked would wait until some other one is added.
    @kopf.on.event(GROUP, "v1alpha1", "taskqueues", registry=registry)
    async def on_task_queue(type: str | None, body: kopf.Body, **_: Any) -> None:
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


async def wait_for_crd(kube: Kube, namespace: str | None) -> list[dict[str, Any]]:
    """Wait until TaskQueues can be listed: kopf would not notice a CRD that comes later. Returns their metadata."""
    while True:
        try:
            return await kube.list_metadata(KIND, namespace)
        except TaskfleetError as error:
            missing = isinstance(error, NotFoundError)
            text = "the CRD taskqueues.taskfleet.dev is missing: apply k8s/crd" if missing else str(error)
            _log.warning("taskqueues.not_listed", error=text)
        await asyncio.sleep(CRD_WAIT_SECONDS)


async def sweep_deleted(
    kube: Kube, namespace: str | None, reconciler: Reconciler, enqueue: Callable[[str], None]
) -> None:
    """Forget, each minute, TaskQueues that were deleted while no watch was open: nothing else tells of them.

    Raises NotFoundError when the CRD itself is gone: the process ends, and waits for it when it starts anew.
    """
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        known = {key: raw["metadata"]["uid"] for key, raw in reconciler.queues.items()}
        try:
            listed = await kube.list_metadata(KIND, namespace)
        except NotFoundError:
            raise
        except TaskfleetError as error:
            _log.warning("taskqueues.not_listed", error=str(error))
            continue
        present = {item["uid"] for item in listed}
        now = reconciler.queues  # put together anew at each look
        for key, uid in known.items():
            current = now.get(key)
            if uid not in present and current is not None and current["metadata"]["uid"] == uid:
                for rival in reconciler.forget(key):
                    enqueue(rival)
