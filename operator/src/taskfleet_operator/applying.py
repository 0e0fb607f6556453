"""Carries out a plan: children in order, fences, costs, scale, events, status last. Writes only what differs."""

import hashlib
import json
from typing import Any

from taskfleet_core.errors import ConflictError
from taskfleet_operator.events import EventSender
from taskfleet_operator.kube import Kube
from taskfleet_operator.names import DELETION_COST, SCALE_MANAGER, SPEC_HASH
from taskfleet_operator.observed import Observed, Plan
from taskfleet_operator.polling import Store

__all__ = ["Applier", "build_hash", "is_covered"]

Manifest = dict[str, Any]


def build_hash(manifest: Manifest) -> str:
    """Changes with the wanted fields."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def is_covered(wanted: Any, actual: Any) -> bool:
    """Whether `actual` has every wanted field; what Kubernetes or others added does not count.

    Lists are compared in order and in full length: a container or variable added by hand is drift.
    """
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(is_covered(value, actual.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(actual, list) or len(wanted) != len(actual):
            return False
        return all(is_covered(one, other) for one, other in zip(wanted, actual, strict=True))
    return bool(wanted == actual)


class Applier:
    """All writes of the operator."""

    def __init__(self, kube: Kube, store: Store, events: EventSender) -> None:
        self._kube, self._store, self._events = kube, store, events

    async def apply(self, observed: Observed, plan: Plan) -> list[Manifest]:
        """Carry the plan out; returns the children as the API server has them now. A conflict means: look again."""
        written = [await self._apply_child(observed, child) for child in plan.apply]
        if plan.unfence:
            await self._store.unfence(plan.unfence)
        if plan.fence:
            await self._store.fence(plan.fence)
        if plan.scale is not None:
            await self._scale(observed, plan)
        for event in plan.events:
            await self._events.send(observed.raw, event)
        await self._write_status(observed, plan.status)
        return [child for child in written if child is not None]

    async def _apply_child(self, observed: Observed, child: Manifest) -> Manifest | None:
        actual = observed.children.get((child["kind"], child["metadata"]["name"]))
        digest = build_hash(child)
        wanted = {**child, "metadata": {**child["metadata"], "annotations": {SPEC_HASH: digest}}}
        if actual is not None and is_covered(_without_kind(wanted), actual):
            return None
        if child["kind"] == "Deployment":
            wanted = _with_birth_replicas(wanted, actual)
        return await self._kube.apply(wanted)

    async def _scale(self, observed: Observed, plan: Plan) -> None:
        assert plan.scale is not None
        deployment = observed.deployment
        assert deployment is not None
        namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
        for pod, cost in plan.scale.costs.items():
            await self._kube.annotate_pod(namespace, pod, {DELETION_COST: str(cost) if cost else None})
        await self._kube.apply_scale(namespace, name, plan.scale.replicas, plan.scale.resource_version)

    async def _write_status(self, observed: Observed, status: Manifest) -> None:
        earlier = observed.raw.get("status") or {}
        merged = {**earlier, **status}
        if merged == earlier:
            return
        try:
            await self._kube.replace_status(observed.raw, merged)
        except ConflictError:
            return  # the TaskQueue changed meanwhile: its event brings the next reconcile


def _without_kind(manifest: Manifest) -> Manifest:
    # Objects from lists and watches are not always told with these two.
    return {key: value for key, value in manifest.items() if key not in {"kind", "apiVersion"}}


def _with_birth_replicas(wanted: Manifest, actual: Manifest | None) -> Manifest:
    """A Deployment applied without `replicas` is born with one pod; once owned, leaving the field out resets it to
    one. So it is born with 0, and left out only when managedFields show that scaling owns it by now."""
    if actual is not None and _is_owned_by_scaling(actual):
        return wanted
    replicas = actual["spec"].get("replicas", 0) if actual else 0
    return {**wanted, "spec": {**wanted["spec"], "replicas": replicas}}


def _is_owned_by_scaling(deployment: Manifest) -> bool:
    for entry in deployment["metadata"].get("managedFields") or ():
        fields = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if "f:replicas" in fields and (entry["manager"] == SCALE_MANAGER or entry.get("subresource") == "scale"):
            return True
    return False
