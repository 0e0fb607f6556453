"""One reconcile: observe -> decide -> apply. Level, not edge: it repairs whatever differs, whatever woke it up."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from taskfleet_core.taskqueue import TaskQueue
from taskfleet_core.topology import build_queue_specs
from taskfleet_operator.applying import Applier
from taskfleet_operator.brokers import BrokerAccess, BrokerDirectory, Resolution
from taskfleet_operator.conditions import build_failed_status
from taskfleet_operator.events import EventSender
from taskfleet_operator.fleet import FleetLimits
from taskfleet_operator.indexing import Entry, QueueIndex
from taskfleet_operator.injection_keeping import InjectionKeeper
from taskfleet_operator.kube import Kube
from taskfleet_operator.names import CHILD_KINDS_BY_NAME, Reason, get_child_name
from taskfleet_operator.observed import EventToSend, Observed, PodFacts
from taskfleet_operator.observing import build_pod_facts, explain_invalid, explain_problem, select_beats
from taskfleet_operator.planning import build_plan
from taskfleet_operator.polling import Poller
from taskfleet_operator.remembering import Remembered
from taskfleet_operator.topology_keeping import QueueState, TopologyKeeper
from taskfleet_operator.user_seats import UserSeats
from taskfleet_operator.watching import Watcher

__all__ = ["CHILD_KINDS", "Reconciler"]

CHILD_KINDS = ("Deployment", "Pod", "ServiceAccount", "Secret", "PodDisruptionBudget", "ConfigMap")
OTHERS_SECONDS = 30.0

Manifest = dict[str, Any]


@dataclass
class Reconciler:
    """Everything that a reconcile needs, and `reconcile(key)` itself."""

    kube: Kube
    brokers: BrokerDirectory
    poller: Poller
    keeper: TopologyKeeper
    seats: UserSeats
    applier: Applier
    events: EventSender
    watchers: dict[str, Watcher]
    injection: InjectionKeeper
    may_write: Callable[[], bool]
    enqueue: Callable[[str], None]
    fleet: FleetLimits
    index: QueueIndex
    remembered: dict[str, Remembered] = field(default_factory=dict)  # by key
    reconciled: int = 0
    _leaving: set[str] = field(default_factory=set)  # TaskQueues that are gone, but not all of their pods

    @property
    def queues(self) -> dict[str, Manifest]:
        """All TaskQueues as read, by key."""
        return {key: entry.raw for key, entry in self.index.entries.items()}

    def remember(self, key: str, raw: Manifest) -> bool:
        """Keep the newest version; False when nothing but what this operator wrote itself has changed."""
        self._leaving.discard(key)
        old = self.index.entries.get(key)
        access, names = (old.access, list(old.queue.queue_weights)) if old and old.queue else (None, [])
        places = old.places if old else ()
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
        if entry.places != places:
            for rival in self.index.find_at(places) - {key}:  # what it gave up is theirs, perhaps
                self.enqueue(rival)
        self._release(access, names)
        return changed

    def forget(self, key: str) -> list[str]:
        """The TaskQueue is gone; returns those that may serve its queue now."""
        gone = self.index.entries.get(key)
        access = gone.access if gone else None
        self.index.remove(key)
        self.remembered.pop(key, None)
        self.injection.forget(key)
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
        remembered = self.remembered.setdefault(key, Remembered())
        observed = self._observe(entry, entry.queue, resolution, remembered)
        build = remembered.build_children
        plan = build_plan(observed, self.injection.name, datetime.now(UTC), time.monotonic(), self.fleet.limit, build)
        if plan.decision is None:
            self.fleet.hold(observed)
        again = await self.injection.ensure(entry.queue) if plan.apply else None
        if not self.may_write():
            return None
        remembered.note_fences(plan)
        for child in await self.applier.apply(observed, plan):
            self.watchers[child["kind"]].put(child)
        remembered.note(observed, plan)
        self.reconciled += 1
        return min((pause for pause in (plan.requeue_after_seconds, again) if pause is not None), default=None)

    def _leave_to_others(self, entry: Entry) -> float | None:
        """Another shard's: what matters is which queue it has, as told by a Secret that may change."""
        if self.remembered.pop(entry.key, None) is not None:
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

    def _observe(self, entry: Entry, queue: TaskQueue, resolution: Resolution, past: Remembered) -> Observed:
        numbers = self.poller.get_all(resolution.access, queue.queue_weights)
        pods = self._get_pods(queue)
        has_namesakes = self.index.has_namesakes(queue.queue_name)
        beats = select_beats(numbers.heartbeats, pods, has_namesakes=has_namesakes)
        if beats is not None:
            past.counters.add(beats)
            past.counters.add_startups(beats, pods)
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
            silent=past.counters.find_silent(beats, pods) if beats is not None else frozenset(),
            startup_seconds=past.counters.startup_seconds,
            memory=past.memory,
            fenced=past.fenced,
            conflict_with=self.index.find_older(entry.key),
            topology_ready=topology.is_ready,
            topology_error=topology.error,
            degradations=topology.degradations,
            unknown_fields=entry.unknown_fields,
            completed=past.counters.completed,
            run_seconds_sum=past.counters.run_seconds_sum,
            slow_share=past.counters.slow_share,
        )

    def _get_pods(self, queue: TaskQueue) -> tuple[PodFacts, ...]:
        return tuple(build_pod_facts(pod) for pod in self.watchers["Pod"].find_owned(queue.key))

    def _count_pods(self, key: str) -> int:
        """Pods of a TaskQueue that is gone."""
        return sum(not build_pod_facts(pod).has_ended for pod in self.watchers["Pod"].find_owned(key))

    def _get_children(self, queue: TaskQueue) -> dict[tuple[str, str], Manifest]:
        name = get_child_name(queue.name)
        found = {}
        for kind in CHILD_KINDS_BY_NAME:
            child = self.watchers[kind].get(queue.metadata.namespace, name)
            if child is not None:
                found[(kind, name)] = child
        return found

    async def _report_invalid(self, raw: Manifest, error: ValidationError) -> None:
        before, message = raw.get("status") or {}, explain_invalid(error)
        status = build_failed_status(raw, before, Reason.INVALID_SPEC, message, datetime.now(UTC))
        if status != before:
            await self.kube.replace_status(raw, status)
        await self.events.send(raw, EventToSend("Warning", Reason.INVALID_SPEC, message))
