"""Carries out a plan: children in order, fences, costs, scale, events, status last. Writes only what differs."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from taskfleet_core.errors import ConflictError, TaskfleetError
from taskfleet_operator.comparing import get_stored_form, is_covered
from taskfleet_operator.conditions import build_failed_status
from taskfleet_operator.events import EventSender
from taskfleet_operator.kube import ForbiddenError, Kube, RefusedError
from taskfleet_operator.names import CHILD_KINDS_BY_NAME, DELETION_COST, SCALE_MANAGER, SPEC_HASH, Reason
from taskfleet_operator.observed import EventToSend, Observed, Plan
from taskfleet_operator.store import Store

__all__ = ["Applier", "build_hash"]

# Children that a plan may leave out because they are no longer asked for.
OPTIONAL_KINDS = ("PodDisruptionBudget",)

Manifest = dict[str, Any]
_Place = tuple[str, str, str]  # kind, namespace, name


async def _go_on() -> None:
    """Nobody has to be let past."""


def build_hash(manifest: Manifest) -> str:
    """Changes with the wanted fields."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


class Applier:
    """All writes of the operator."""

    def __init__(
        self, kube: Kube, store: Store, events: EventSender, give_way: Callable[[], Awaitable[None]] = _go_on
    ) -> None:
        """`give_way` is awaited before events and status: replicas of other TaskQueues are more urgent."""
        self._kube, self._store, self._events, self._give_way = kube, store, events, give_way
        # (kind, namespace, name) -> (hash of what was wanted, how the API server stored it), where the two differ in
        # spelling: `cpu: 1000m` is stored as `1`, and must not look like drift for ever.
        self._stored: dict[_Place, tuple[str, Manifest]] = {}
        # What was found settled last, and at which version: the same two need not be compared again.
        self._settled: dict[_Place, tuple[Manifest, str]] = {}

    def forget(self, namespace: str, name: str) -> None:
        """Drop what is remembered of children of this name."""
        for kind in CHILD_KINDS_BY_NAME:
            self._stored.pop((kind, namespace, name), None)
            self._settled.pop((kind, namespace, name), None)

    async def apply(self, observed: Observed, plan: Plan) -> list[Manifest]:
        """Carry the plan out; returns the children as the API server has them now. A conflict means: look again."""
        try:
            written = [await self._apply_child(observed, child) for child in plan.apply]
            if plan.apply:
                await self._delete_unwanted(observed, plan)
            if plan.unfence:
                await self._store.unfence(plan.unfence)
            if plan.fence:
                await self._store.fence(plan.fence)
            if plan.scale is not None:
                await self._scale(observed, plan, written)
        except (RefusedError, ForbiddenError) as error:
            await self._report_refusal(observed, plan, error)
            raise
        await self._give_way()
        for event in plan.events:
            await self._events.send(observed.raw, event)
        await self._write_status(observed, plan.status)
        return [child for child in written if child is not None]

    async def _apply_child(self, observed: Observed, child: Manifest) -> Manifest | None:
        place = kind, namespace, name = _get_place(child)
        actual = observed.children.get((kind, name))
        if actual is not None and self._was_settled(place, child, actual):
            return None
        digest = build_hash(child)
        wanted = {**child, "metadata": {**child["metadata"], "annotations": {SPEC_HASH: digest}}}
        if actual is None and kind == "Deployment":
            # Somebody may have taken its labels off: one that runs must not be born a second time with 0 pods. What
            # else is there without them gets them back by being applied.
            actual = await self._kube.find(kind, namespace, name)
        if actual is not None and self._is_settled(wanted, actual, digest):
            self._settled[place] = (child, actual["metadata"]["resourceVersion"])
            return None
        if kind == "Deployment":
            wanted = _with_birth_replicas(wanted, actual)
        if actual is not None:
            # A write that was delayed on its way meets a newer version, and does nothing.
            wanted["metadata"]["resourceVersion"] = actual["metadata"]["resourceVersion"]
        answer = await self._kube.apply(wanted)
        self._remember_stored(wanted, answer, digest)
        return answer

    def _was_settled(self, place: _Place, child: Manifest, actual: Manifest) -> bool:
        settled = self._settled.get(place)
        return settled is not None and settled[0] is child and settled[1] == actual["metadata"]["resourceVersion"]

    def _is_settled(self, wanted: Manifest, actual: Manifest, digest: str) -> bool:
        if is_covered(_without_kind(wanted), actual):
            return True
        stored = self._stored.get(_get_place(wanted))
        return stored is not None and stored[0] == digest and is_covered(stored[1], actual)

    def _remember_stored(self, wanted: Manifest, answer: Manifest, digest: str) -> None:
        wanted["metadata"].pop("resourceVersion", None)
        wanted = _without_kind(wanted)
        if is_covered(wanted, answer):
            self._stored.pop(_get_place(answer), None)
            return
        stored = get_stored_form(wanted, answer)
        # It belongs to scaling from now on.
        stored.get("spec", {}).pop("replicas", None)
        self._stored[_get_place(answer)] = (digest, stored)

    async def _delete_unwanted(self, observed: Observed, plan: Plan) -> None:
        wanted = {(child["kind"], child["metadata"]["name"]) for child in plan.apply}
        for (kind, name), child in observed.children.items():
            if kind in OPTIONAL_KINDS and (kind, name) not in wanted and "deletionTimestamp" not in child["metadata"]:
                await self._kube.delete({**child, "kind": kind})

    async def _scale(self, observed: Observed, plan: Plan, written: list[Manifest | None]) -> None:
        assert plan.scale is not None
        deployment = observed.deployment
        assert deployment is not None
        namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
        version = plan.scale.resource_version
        for child in written:
            # Its own write a moment ago is no reason to look again, as long as the replicas are those decided upon.
            if child and child["kind"] == "Deployment" and _get_replicas(child) == _get_replicas(deployment):
                version = child["metadata"]["resourceVersion"]
        for pod, cost in plan.scale.costs.items():
            await self._kube.annotate_pod(namespace, pod, {DELETION_COST: str(cost) if cost else None})
        await self._kube.apply_scale(namespace, name, plan.scale.replicas, version)

    async def _report_refusal(self, observed: Observed, plan: Plan, error: TaskfleetError) -> None:
        """Say in the status what Kubernetes refuses: the spec is at fault, or a right or quota is missing."""
        reason = Reason.INVALID_SPEC if isinstance(error, RefusedError) else Reason.FORBIDDEN
        await self._events.send(observed.raw, EventToSend("Warning", reason, str(error)))
        status = build_failed_status(observed.raw, plan.status, reason, str(error), datetime.now(UTC))
        await self._write_status(observed, status)

    async def _write_status(self, observed: Observed, status: Manifest) -> None:
        raw = observed.raw
        if _merge_status(raw, status) == (raw.get("status") or {}):
            return
        try:
            await self._kube.replace_status(raw, _merge_status(raw, status))
        except ConflictError:
            # Most often its own last write, which the watch has not brought yet. A change of the spec brings the next
            # reconcile by itself; anything else would be forgotten here.
            metadata = raw["metadata"]
            fresh = await self._kube.find("TaskQueue", metadata["namespace"], metadata["name"])
            if fresh is None or fresh["metadata"]["uid"] != metadata["uid"]:
                return
            if fresh["metadata"]["generation"] == metadata["generation"]:
                await self._kube.replace_status(fresh, _merge_status(fresh, status))


def _get_replicas(deployment: Manifest) -> object:
    return deployment["spec"].get("replicas")


def _merge_status(raw: Manifest, status: Manifest) -> Manifest:
    return {**(raw.get("status") or {}), **status}


def _get_place(manifest: Manifest) -> _Place:
    # An answer without a kind does not occur on single objects; wanted ones always have it before it is taken off.
    metadata = manifest["metadata"]
    return str(manifest.get("kind")), metadata["namespace"], metadata["name"]


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
