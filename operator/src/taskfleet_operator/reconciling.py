"""One reconcile: observe -> decide -> apply. Level, not edge: it repairs whatever differs, whatever woke it up."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import ValidationError

from taskfleet_core.events import Heartbeat, QueueRegistration
from taskfleet_core.registrations import build_registrations
from taskfleet_core.scaling import Decision, Memory
from taskfleet_core.statistics import sum_statistics
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_core.topology import build_queue_specs
from taskfleet_operator.applying import Applier
from taskfleet_operator.brokers import BrokerAccess, BrokerDirectory, Resolution
from taskfleet_operator.children.injection import Injection
from taskfleet_operator.children.metadata import build_owner
from taskfleet_operator.compacting import share
from taskfleet_operator.conditions import merge_conditions
from taskfleet_operator.counters import Counters
from taskfleet_operator.events import EventSender
from taskfleet_operator.fleet import FleetLimits
from taskfleet_operator.indexing import Entry, QueueIndex, get_key
from taskfleet_operator.kube import Kube
from taskfleet_operator.names import CHILD_KINDS_BY_NAME, ConditionType, Reason, get_child_name
from taskfleet_operator.observed import Credentials, EventToSend, Observed, PodFacts
from taskfleet_operator.observing import build_pod_facts, explain_invalid, explain_problem
from taskfleet_operator.planning import Children, build_children, build_plan, is_acting
from taskfleet_operator.polling import Poller
from taskfleet_operator.samples import Sample, build_samples
from taskfleet_operator.settings import OperatorSettings
from taskfleet_operator.topology_keeping import QueueState, TopologyKeeper
from taskfleet_operator.user_seats import UserSeats
from taskfleet_operator.watching import Watcher

__all__ = ["CHILD_KINDS", "Reconciler", "get_key"]

CHILD_KINDS = ("Deployment", "Pod", "ServiceAccount", "Secret", "PodDisruptionBudget", "ConfigMap")
OWNER_SECONDS = 5.0
OTHERS_SECONDS = 30.0
SCALE_ONLY_BROKER = "secret"  # a name that no broker in the API's settings has

_log = structlog.get_logger()
Manifest = dict[str, Any]


@dataclass
class _State:
    """What is remembered of one TaskQueue between reconciles. Losing it costs precision, no safety."""

    memory: Memory | None = None
    fenced: frozenset[str] = frozenset()
    counters: Counters = field(default_factory=Counters)
    observed: Observed | None = None
    decision: Decision | None = None
    causes: dict[str, int] = field(default_factory=dict)
    ownerless_since: float | None = None  # monotonic: uses the ConfigMap of the worker package without owning it
    _built: tuple[TaskQueue, Credentials, str, Children] | None = None

    def build_children(self, queue: TaskQueue, credentials: Credentials, injection: str) -> Children:
        """The same objects as last time as long as nothing that they are made of is another."""
        built = self._built
        if built is None or built[0] is not queue or built[1:3] != (credentials, injection):
            children = tuple(map(share, build_children(queue, credentials, injection)))
            built = self._built = (queue, credentials, injection, children)
        return built[3]


@dataclass
class Reconciler:
    """Everything that a reconcile needs, and `reconcile(key)` itself."""

    kube: Kube
    settings: OperatorSettings
    brokers: BrokerDirectory
    poller: Poller
    keeper: TopologyKeeper
    seats: UserSeats
    applier: Applier
    events: EventSender
    watchers: dict[str, Watcher]
    injection: Injection
    may_write: Callable[[], bool]
    enqueue: Callable[[str], None]
    fleet: FleetLimits
    index: QueueIndex = field(default_factory=QueueIndex)
    reconciled: int = 0
    _states: dict[str, _State] = field(default_factory=dict)
    _leaving: set[str] = field(default_factory=set)  # TaskQueues that are gone, but not all of their pods
    _injecting: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    @property
    def queues(self) -> dict[str, Manifest]:
        """All TaskQueues as read, by key."""
        return {key: entry.raw for key, entry in self.index.entries.items()}

    def remember(self, key: str, raw: Manifest) -> bool:
        """Keep the newest version; False when nothing but what this operator wrote itself has changed."""
        self._leaving.discard(key)
        old = self.index.entries.get(key)
        access, names = (old.access, list(old.queue.queue_weights)) if old and old.queue else (None, [])
        changed = self.index.put(raw)
        entry = self.index.entries[key]
        if old is None:
            for sender in self.seats.find_senders(entry.queue):
                self.enqueue(sender)
        if entry.queue is not None and entry.queue.spec.broker is None:
            # Known without asking anybody. Other brokers are known after the first reconcile.
            own = self.brokers.default
            for rival in self.index.set_broker(key, own, self.brokers.get_identity(own)):
                self.enqueue(rival)
        self._release(access, names)
        return changed

    def forget(self, key: str) -> list[str]:
        """The TaskQueue is gone; returns those that may serve its queue now."""
        gone = self.index.entries.get(key)
        access = gone.access if gone else None
        self.index.remove(key)
        self._states.pop(key, None)
        self.seats.keeper.drop(key)
        for sender in self.seats.find_senders(gone.queue if gone else None):
            self.enqueue(sender)
        namespace, _, name = key.partition("/")
        self.applier.forget(namespace, get_child_name(name))
        if self.fleet.leave(key, lambda: self._count_pods(key)):
            self._leaving.add(key)
        if gone is None or gone.queue is None or not gone.places:
            return []
        self._release(access, gone.queue.queue_weights)
        return sorted(self.index.find_at(gone.places))

    def get_wanted(self) -> dict[BrokerAccess, set[str]]:
        """What the poller shall read. The operator's own broker is read also while no queue lives there."""
        return {self.brokers.default: set(), **self.index.get_wanted()}

    def build_registrations(self) -> list[QueueRegistration]:
        """All queues for the API. Of two on one queue the older one counts; a queue at the operator's own broker before
        one of the same name elsewhere, which can only be scaled."""
        entries: dict[str, QueueRegistration] = {}
        placed = [entry for entry in self.index.iterate_valid() if entry.access is not None]
        for entry in sorted(placed, key=lambda entry: entry.seniority, reverse=True):
            queue, is_own = entry.queue, self.brokers.is_default(entry.access) if entry.access else False
            assert queue is not None
            broker = self.settings.broker_name if is_own else SCALE_ONLY_BROKER
            for registration in build_registrations(queue, time.time(), source="operator", broker=broker):
                other = entries.get(registration["queueName"])
                if is_own or other is None or other["broker"] == SCALE_ONLY_BROKER:
                    entries[registration["queueName"]] = registration
        return list(entries.values())

    def get_samples(self) -> Iterator[Sample]:
        """Metric samples of all TaskQueues, with the broker's figures of this moment."""
        seen: set[tuple[str, str]] = set()
        for key, state in list(self._states.items()):
            observed, entry = state.observed, self.index.entries.get(key)
            if observed is None or observed.conflict_with is not None or entry is None:
                continue  # of two on one queue, the one that serves it tells
            labels = {(observed.queue.metadata.namespace, name) for name in observed.queue.queue_weights}
            if labels & seen:
                continue  # the same name at another broker: one series may come once only
            seen |= labels
            numbers = {name: self.poller.get(entry.access, name) for name in observed.queue.queue_weights}
            is_refused = observed.statistics_reason == Reason.BROKER_CREDENTIALS_REFUSED
            figures = {name: None if is_refused else each.statistics for name, each in numbers.items()}
            beats = self._select_beats(observed.queue, numbers[observed.queue.queue_name].heartbeats, observed.pods)
            fresh = replace(observed, statistics=sum_statistics(list(figures.values())), heartbeats=beats)
            yield from build_samples(fresh, state.decision, state.causes, figures)

    def get_decisions(self) -> Iterator[tuple[str, Decision, bool]]:
        """The last decision about the workers of each queue, and whether it was acted on."""
        for state in list(self._states.values()):
            observed, decision = state.observed, state.decision
            if observed is not None and decision is not None and observed.conflict_with is None:
                for name in observed.queue.queue_weights:
                    yield name, decision, is_acting(observed)

    def get_process_samples(self) -> Iterator[tuple[str, float | None]]:
        """Metric samples of the process itself."""
        beat_at = self.poller.beat_at
        yield "taskfleet_operator_poll_seconds", self.poller.round_seconds
        yield (
            "taskfleet_operator_poll_timestamp_seconds",
            None if beat_at is None else time.time() - (time.monotonic() - beat_at),
        )
        yield "taskfleet_operator_reconciles", self.reconciled
        yield "taskfleet_operator_leader", float(self.may_write())

    async def reconcile(self, key: str) -> float | None:
        """Bring one TaskQueue's children and status to what they should be; seconds until the next look, or None."""
        entry = self.index.entries.get(key)
        # Others without an entry are those that kopf has not told of yet.
        if entry is None and key in self._leaving and not self.fleet.leave(key, lambda: self._count_pods(key)):
            self._leaving.discard(key)
        if entry is None or not self.may_write():
            return None
        if entry.queue is None:
            assert entry.error is not None
            if self.index.is_ours(key):
                await self._report_invalid(entry.raw, entry.error)
            return None
        resolution = await self.brokers.resolve(entry.queue)
        if self.index.entries.get(key) is not entry:
            return 0.0  # it changed while the Secret was read
        self._place(entry, resolution)
        if not self.index.is_ours(key):
            return self._leave_to_others(entry)
        state = self._states.setdefault(key, _State())
        observed = self._observe(entry, entry.queue, resolution, state)
        plan = build_plan(
            observed, self.injection.name, datetime.now(UTC), time.monotonic(), self.fleet.limit, state.build_children
        )
        if plan.decision is None:
            self.fleet.hold(observed)
        again = await self._ensure_injection(entry.queue, state) if plan.apply else None
        if not self.may_write():
            return None
        state.fenced |= set(plan.fence)  # also when a later step fails: a fence that was set has to be lifted again
        for child in await self.applier.apply(observed, plan):
            self.watchers[child["kind"]].put(child)
        present = {pod.uid for pod in observed.pods}
        state.memory, state.decision, state.observed = plan.memory, plan.decision, observed
        if plan.decision is not None:
            state.causes[plan.decision.cause] = state.causes.get(plan.decision.cause, 0) + 1
        state.fenced = ((state.fenced - set(plan.unfence)) | set(plan.fence)) & present
        self.reconciled += 1
        return min((pause for pause in (plan.requeue_after_seconds, again) if pause is not None), default=None)

    def _leave_to_others(self, entry: Entry) -> float | None:
        """Another shard's: what matters is which queue it has, as told by a Secret that may change."""
        if self._states.pop(entry.key, None) is not None:
            self.fleet.leave(entry.key, lambda: 0)  # its pods count there
        return OTHERS_SECONDS if entry.queue is not None and entry.queue.spec.broker is not None else None

    # -- brokers ---------------------------------------------------------------------------------------------------

    def _place(self, entry: Entry, resolution: Resolution) -> None:
        """Say to index, poller and keeper which queue at which broker this is, now that it is known."""
        assert entry.queue is not None
        before, names = entry.access, entry.queue.queue_weights
        access = resolution.access
        identity = self.brokers.get_identity(access) if access is not None else None
        for rival in self.index.set_broker(entry.key, access, identity):
            self.enqueue(rival)
        if before != access:
            self._release(before, names)
        if access is not None and self.index.is_ours(entry.key) and self.index.find_older(entry.key) is None:
            for spec in build_queue_specs(entry.queue):
                self.keeper.want(access, spec, entry.queue.metadata.namespace)

    def _release(self, access: BrokerAccess | None, names: Iterable[str]) -> None:
        for name in names if access is not None else ():
            if access is not None and not self.index.find_keys(access, [name]):
                self.keeper.drop(access, name)

    # -- what one reconcile sees -----------------------------------------------------------------------------------

    def _observe(self, entry: Entry, queue: TaskQueue, resolution: Resolution, state: _State) -> Observed:
        numbers = self.poller.get_all(resolution.access, queue.queue_weights)
        pods = self._get_pods(queue)
        beats = self._select_beats(queue, numbers.heartbeats, pods)
        if beats is not None:
            state.counters.add(beats)
            state.counters.add_startups(beats, pods)
        access = resolution.access
        topology = self.keeper.get_all(access, queue.queue_weights) if access is not None else QueueState()
        statistics = None if topology.is_refused else numbers.statistics
        reason, text = explain_problem(numbers.problem, resolution.where, is_new=topology.is_new(time.monotonic()))
        if topology.is_refused:
            # Workers could not log in either, whatever the metrics, which ask for no password, go on to tell.
            reason = Reason.BROKER_CREDENTIALS_REFUSED
            text = f"{topology.error}: correct user, password and rights in {resolution.where}; replicas are held"
        shared = self.brokers.build_credentials(resolution)
        credentials, user = self.seats.seat(entry.key, queue, shared, is_declared=topology.is_ready)
        return Observed(
            queue=queue,
            raw=entry.raw,
            credentials=credentials,
            user=user,
            credentials_error=resolution.error,
            children=self._get_children(queue),
            pods=pods,
            statistics=statistics,
            statistics_error=text if statistics is None else None,
            statistics_reason=reason if statistics is None else None,
            heartbeats=beats,
            silent=state.counters.find_silent(beats, pods) if beats is not None else frozenset(),
            startup_seconds=state.counters.startup_seconds,
            memory=state.memory,
            fenced=state.fenced,
            conflict_with=self.index.find_older(entry.key),
            topology_ready=topology.is_ready,
            topology_error=topology.error,
            degradations=topology.degradations,
            unknown_fields=entry.unknown_fields,
            completed=state.counters.completed,
            run_seconds_sum=state.counters.run_seconds_sum,
            slow_share=state.counters.slow_share,
        )

    def _get_pods(self, queue: TaskQueue) -> tuple[PodFacts, ...]:
        key = f"{queue.metadata.namespace}/{queue.name}"
        return tuple(build_pod_facts(pod) for pod in self.watchers["Pod"].find_owned(key))

    def _count_pods(self, key: str) -> int:
        """Pods of a TaskQueue that is gone."""
        return sum(not build_pod_facts(pod).has_ended for pod in self.watchers["Pod"].find_owned(key))

    def _select_beats(
        self, queue: TaskQueue, beats: tuple[Heartbeat, ...] | None, pods: tuple[PodFacts, ...]
    ) -> tuple[Heartbeat, ...] | None:
        """Heartbeats go by the queue's name: where another broker has a queue of that name, those of the own pods."""
        if beats is None or not self.index.has_namesakes(queue.queue_name):
            return beats
        uids = {pod.uid for pod in pods}
        return tuple(beat for beat in beats if beat.get("pod_uid") in uids)

    def _get_children(self, queue: TaskQueue) -> dict[tuple[str, str], Manifest]:
        name = get_child_name(queue.name)
        found = {}
        for kind in CHILD_KINDS_BY_NAME:
            child = self.watchers[kind].get(queue.metadata.namespace, name)
            if child is not None:
                found[(kind, name)] = child
        return found

    # -- writes beside the plan ------------------------------------------------------------------------------------

    async def _ensure_injection(self, queue: TaskQueue, state: _State) -> float | None:
        """Have the ConfigMap, owned by the TaskQueue too; where that is still to do, after how many seconds."""
        if self._is_injection_owner(queue):
            return None
        namespace = queue.metadata.namespace
        # One at a time: at the start all workers would send the same thousand owners, and each such write is dear.
        async with self._injecting[namespace]:
            if self._is_injection_owner(queue):
                return None
            now, present = time.monotonic(), self.watchers["ConfigMap"].get(namespace, self.injection.name)
            if present is not None:
                # It can be used already. Those who come one after the other become owners in one write.
                state.ownerless_since = state.ownerless_since or now
                remaining = state.ownerless_since + OWNER_SECONDS - now
                if remaining > 0:
                    return remaining
            # All TaskQueues of the namespace at once: none takes another's reference away.
            users = [entry.queue for entry in self.index.iterate_valid() if entry.queue is not None]
            users = sorted((user for user in users if user.metadata.namespace == namespace), key=lambda user: user.name)
            manifest = self.injection.build(namespace, [build_owner(user) for user in users])
            answer = await self.kube.apply(manifest)
            self.watchers["ConfigMap"].put({"metadata": answer["metadata"]})
            state.ownerless_since = None
        return None

    def _is_injection_owner(self, queue: TaskQueue) -> bool:
        present = self.watchers["ConfigMap"].get(queue.metadata.namespace, self.injection.name)
        owners = present["metadata"].get("ownerReferences", ()) if present else ()
        return any(owner["uid"] == queue.metadata.uid for owner in owners)

    async def _report_invalid(self, raw: Manifest, error: ValidationError) -> None:
        wanted = {ConditionType.READY: ("False", Reason.INVALID_SPEC, explain_invalid(error))}
        status = dict(raw.get("status") or {})
        others = [item for item in status.get("conditions", []) if item["type"] != ConditionType.READY]
        generation = raw["metadata"].get("generation")
        ready = merge_conditions(status.get("conditions", []), wanted, generation, datetime.now(UTC))
        if [*ready, *others] != status.get("conditions"):
            await self.kube.replace_status(raw, {**status, "conditions": [*ready, *others]})
        event = EventToSend("Warning", Reason.INVALID_SPEC, explain_invalid(error))
        await self.events.send(raw, event)
