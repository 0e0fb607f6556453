"""One reconcile: observe -> decide -> apply. Level, not edge: it repairs whatever differs, whatever woke it up."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import ValidationError

from taskfleet_core.errors import NotFoundError, TaskfleetError
from taskfleet_core.events import QueueRegistration
from taskfleet_core.registrations import build_registration
from taskfleet_core.scaling import Decision, Memory
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.applying import Applier
from taskfleet_operator.children.injection import build_injection, build_injection_name
from taskfleet_operator.children.metadata import build_owner
from taskfleet_operator.conditions import merge_conditions
from taskfleet_operator.counters import Counters
from taskfleet_operator.kube import Kube
from taskfleet_operator.names import QUEUE_LABEL, ConditionType, Reason
from taskfleet_operator.observed import Credentials, Observed
from taskfleet_operator.observing import build_pod_facts, decode_secret, explain_invalid, parse_queue, parse_time
from taskfleet_operator.planning import build_plan
from taskfleet_operator.polling import Poller
from taskfleet_operator.samples import Sample, build_samples
from taskfleet_operator.settings import OperatorSettings
from taskfleet_operator.watching import Watcher

__all__ = ["CHILD_KINDS", "Reconciler", "get_key"]

CHILD_KINDS = ("Deployment", "Pod", "ServiceAccount", "Secret", "PodDisruptionBudget", "ConfigMap")

_log = structlog.get_logger()
Manifest = dict[str, Any]


def get_key(manifest: Manifest) -> str:
    """namespace/name."""
    return f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"


def _without_status(raw: Manifest) -> Manifest:
    metadata = {k: v for k, v in raw["metadata"].items() if k not in {"resourceVersion", "managedFields"}}
    return {**raw, "metadata": metadata, "status": None}


@dataclass
class _State:
    """What is remembered of one TaskQueue between reconciles. Losing it costs precision, no safety."""

    memory: Memory | None = None
    fenced: frozenset[str] = frozenset()
    counters: Counters = field(default_factory=Counters)
    observed: Observed | None = None
    decision: Decision | None = None
    causes: dict[str, int] = field(default_factory=dict)


@dataclass
class Reconciler:
    """Everything that a reconcile needs, and `reconcile(key)` itself."""

    kube: Kube
    settings: OperatorSettings
    poller: Poller
    applier: Applier
    watchers: dict[str, Watcher]
    archive: bytes
    may_write: Callable[[], bool]
    queues: dict[str, Manifest] = field(default_factory=dict)  # key -> TaskQueue as read; kept by the handlers
    reconciled: int = 0
    _states: dict[str, _State] = field(default_factory=dict)
    _parsed: dict[str, tuple[str, TaskQueue]] = field(default_factory=dict)

    def remember(self, key: str, raw: Manifest) -> bool:
        """Keep the newest version; False when nothing but what this operator wrote itself has changed."""
        old = self.queues.get(key)
        self.queues[key] = raw
        return old is None or _without_status(old) != _without_status(raw)

    def forget(self, key: str) -> list[str]:
        """The TaskQueue is gone; returns those that may serve its queue now."""
        gone = self._parsed.pop(key, None)
        self.queues.pop(key, None)
        self._states.pop(key, None)
        return [other for other, queue in self._valid_items() if gone and queue.queue_name == gone[1].queue_name]

    def find_keys(self, queue_names: set[str]) -> list[str]:
        """The TaskQueues of these queues."""
        return [key for key, queue in self._valid_items() if queue.queue_name in queue_names]

    def get_queues_by_broker(self) -> dict[str, set[str]]:
        """What the poller shall read."""
        names = {queue.queue_name for queue in self._valid_queues() if queue.spec.broker is None}
        return {self.settings.broker_name: names}

    def build_registrations(self) -> list[QueueRegistration]:
        """All queues for the API; of two on one queue the older one counts."""
        entries: dict[str, QueueRegistration] = {}
        for queue in sorted(self._valid_queues(), key=self._get_age, reverse=True):
            entries[queue.queue_name] = self._build_registration(queue)
        return list(entries.values())

    def get_samples(self) -> Iterator[Sample]:
        """Metric samples of all TaskQueues, with the broker's figures of this moment."""
        for state in list(self._states.values()):
            if state.observed is not None:
                numbers = self.poller.get(state.observed.queue.queue_name)
                fresh = replace(state.observed, statistics=numbers.statistics, heartbeats=numbers.heartbeats)
                yield from build_samples(fresh, state.decision, state.causes)

    def get_process_samples(self) -> Iterator[tuple[str, float | None]]:
        """Metric samples of the process itself."""
        polled_at = self.poller.polled_at
        yield "taskfleet_operator_poll_seconds", self.poller.round_seconds
        yield (
            "taskfleet_operator_poll_timestamp_seconds",
            None if polled_at is None else time.time() - (time.monotonic() - polled_at),
        )
        yield "taskfleet_operator_reconciles", self.reconciled
        yield "taskfleet_operator_leader", float(self.may_write())

    async def reconcile(self, key: str) -> float | None:
        """Bring one TaskQueue's children and status to what they should be; seconds until the next look, or None."""
        raw = self.queues.get(key)
        if raw is None or not self.may_write():
            return None
        try:
            queue = self._parse(key, raw)
        except ValidationError as error:
            await self._report_invalid(raw, error)
            return None
        state = self._states.setdefault(key, _State())
        observed = await self._observe(key, raw, queue, state)
        plan = build_plan(observed, build_injection_name(self.archive), datetime.now(UTC), time.monotonic())
        if plan.apply:
            await self._ensure_injection(queue)
        if not self.may_write():
            return None
        for child in await self.applier.apply(observed, plan):
            self.watchers[child["kind"]].put(child)
        present = {pod.uid for pod in observed.pods}
        state.memory, state.decision, state.observed = plan.memory, plan.decision, observed
        if plan.decision is not None:
            state.causes[plan.decision.cause] = state.causes.get(plan.decision.cause, 0) + 1
        state.fenced = ((state.fenced - set(plan.unfence)) | set(plan.fence)) & present
        self.reconciled += 1
        return plan.requeue_after_seconds

    async def _observe(self, key: str, raw: Manifest, queue: TaskQueue, state: _State) -> Observed:
        numbers = self.poller.get(queue.queue_name)
        namespace = queue.metadata.namespace
        pods = tuple(
            build_pod_facts(pod)
            for pod in self.watchers["Pod"].values()
            if pod["metadata"]["namespace"] == namespace and pod["metadata"]["labels"].get(QUEUE_LABEL) == queue.name
        )
        if numbers.heartbeats is not None:
            state.counters.add(numbers.heartbeats)
            state.counters.add_startups(numbers.heartbeats, pods)
        credentials, problem = await self._get_credentials(queue)
        return Observed(
            queue=queue,
            raw=raw,
            credentials=credentials,
            credentials_error=problem,
            children=self._get_children(queue),
            pods=pods,
            statistics=numbers.statistics,
            statistics_error=numbers.error,
            heartbeats=numbers.heartbeats,
            startup_seconds=state.counters.startup_seconds,
            memory=state.memory,
            fenced=state.fenced,
            conflict_with=self._find_conflict(key, queue),
            completed=state.counters.completed,
            run_seconds_sum=state.counters.run_seconds_sum,
        )

    def _get_children(self, queue: TaskQueue) -> dict[tuple[str, str], Manifest]:
        name = f"{queue.name}-worker"
        found = {}
        for kind in ("ServiceAccount", "Secret", "Deployment", "PodDisruptionBudget"):
            child = self.watchers[kind].get(queue.metadata.namespace, name)
            if child is not None:
                found[(kind, name)] = child
        return found

    async def _get_credentials(self, queue: TaskQueue) -> tuple[Credentials | None, str | None]:
        redis_url = self.settings.redis_url_of_workers
        if queue.spec.broker is None:
            return Credentials(self.settings.broker_url_of_workers, redis_url), None
        reference = queue.spec.broker.secret_ref
        try:
            secret = await self.kube.get("Secret", queue.metadata.namespace, reference.name)
        except TaskfleetError as error:
            what = "does not exist" if isinstance(error, NotFoundError) else f"cannot be read ({error})"
            return None, f"Secret {reference.name} {what}: create it, or correct spec.broker.secretRef"
        url = decode_secret(secret, reference.key)
        if not url:
            return None, f"Secret {reference.name} has no key {reference.key}: add it, or set spec.broker.secretRef.key"
        return Credentials(url, redis_url), None

    def _find_conflict(self, key: str, queue: TaskQueue) -> str | None:
        rivals = [
            (self._get_age(other), other_key)
            for other_key, other in self._valid_items()
            if other_key != key and other.queue_name == queue.queue_name and other.spec.broker == queue.spec.broker
        ]
        older = [other_key for age, other_key in sorted(rivals) if (age, other_key) < (self._get_age(queue), key)]
        return older[0] if older else None

    def _get_age(self, queue: TaskQueue) -> tuple[datetime, str]:
        raw = self.queues.get(f"{queue.metadata.namespace}/{queue.name}")
        created = raw["metadata"].get("creationTimestamp") if raw else None
        return (parse_time(created) if created else datetime.now(UTC), queue.metadata.uid or "")

    def _parse(self, key: str, raw: Manifest) -> TaskQueue:
        version = raw["metadata"]["resourceVersion"]
        cached = self._parsed.get(key)
        if cached is None or cached[0] != version:
            cached = self._parsed[key] = (version, parse_queue(raw))
        return cached[1]

    def _valid_items(self) -> list[tuple[str, TaskQueue]]:
        items = []
        for key, raw in self.queues.items():
            try:
                items.append((key, self._parse(key, raw)))
            except ValidationError:
                continue
        return items

    def _valid_queues(self) -> list[TaskQueue]:
        return [queue for _, queue in self._valid_items()]

    def _build_registration(self, queue: TaskQueue) -> QueueRegistration:
        broker = self.settings.broker_name if queue.spec.broker is None else "secret"
        return build_registration(queue, time.time(), source="operator", broker=broker)

    async def _ensure_injection(self, queue: TaskQueue) -> None:
        namespace = queue.metadata.namespace
        name = build_injection_name(self.archive)
        present = self.watchers["ConfigMap"].get(namespace, name)
        owners = present["metadata"].get("ownerReferences", []) if present else []
        if any(owner["uid"] == queue.metadata.uid for owner in owners):
            return
        kept = [owner for owner in owners if owner["uid"] in {q.metadata.uid for q in self._valid_queues()}]
        manifest = build_injection(namespace, self.archive, [*kept, build_owner(queue)])
        self.watchers["ConfigMap"].put(await self.kube.apply(manifest))

    async def _report_invalid(self, raw: Manifest, error: ValidationError) -> None:
        wanted = {ConditionType.READY: ("False", Reason.INVALID_SPEC, explain_invalid(error))}
        status = dict(raw.get("status") or {})
        others = [item for item in status.get("conditions", []) if item["type"] != ConditionType.READY]
        generation = raw["metadata"].get("generation")
        ready = merge_conditions(status.get("conditions", []), wanted, generation, datetime.now(UTC))
        if [*ready, *others] != status.get("conditions"):
            await self.kube.replace_status(raw, {**status, "conditions": [*ready, *others]})
