"""One replica of the operator: its parts put together, and what they tell one another."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import kopf

from taskfleet_core.addresses import is_amqp_url, parse_amqp_url
from taskfleet_core.ending import end_tasks
from taskfleet_core.scaling import Decision
from taskfleet_core.taskqueue import POLICY_KIND
from taskfleet_core.topology import QueueUsers
from taskfleet_operator.applying import Applier
from taskfleet_operator.brokers import BrokerAccess, BrokerDirectory
from taskfleet_operator.children.injection import Injection, read_injected_files
from taskfleet_operator.events import EventSender
from taskfleet_operator.fleet import FleetLimits
from taskfleet_operator.fleet_keeping import keep_policies, read_policy, seed_fleet
from taskfleet_operator.handlers import build_registry, build_settings, sweep_deleted, wait_for_crd
from taskfleet_operator.indexing import QueueIndex, get_key
from taskfleet_operator.injection_keeping import InjectionKeeper
from taskfleet_operator.kube import Kube
from taskfleet_operator.lease import Lease
from taskfleet_operator.names import get_shard
from taskfleet_operator.polling import Poller
from taskfleet_operator.probes import ProbeServer
from taskfleet_operator.reconciling import CHILD_KINDS, Reconciler
from taskfleet_operator.registering import build_all_registrations, register_queues
from taskfleet_operator.reporting import iterate_decisions, report_decisions
from taskfleet_operator.settings import OperatorSettings
from taskfleet_operator.store import Store
from taskfleet_operator.topology_keeping import TopologyKeeper
from taskfleet_operator.user_keeping import UserKeeper
from taskfleet_operator.user_seats import UserSeats
from taskfleet_operator.watching import Watcher, find_owner_key
from taskfleet_operator.work_queue import WorkQueue

__all__ = ["STALE_POLLS", "Operator"]

STALE_POLLS = 15  # rounds without an end: the poller is stuck, not the broker slow


class Operator:
    """One replica: waits for the Lease, then acts until it loses the Lease or is told to stop."""

    def __init__(self, settings: OperatorSettings, kube: Kube) -> None:
        self._settings, self._kube = settings, kube
        self._store = Store(settings.redis_address)
        self._lease = _build_lease(settings, kube)
        kube.guard_writes(lambda: self._lease.is_leader)
        self._index, self._brokers = QueueIndex(settings.shard), BrokerDirectory(kube, settings)
        self.work = WorkQueue(lambda key: self.reconciler.reconcile(key), settings.reconcile_workers)
        self._fleet = FleetLimits(settings.max_replicas, self.work.add, _call_later)
        self._watchers = {kind: Watcher(kube, kind, settings.namespace, self._on_child) for kind in CHILD_KINDS}
        self._policies = Watcher(kube, POLICY_KIND, settings.namespace, self._on_policy, selector="", is_optional=True)
        self._keeper = TopologyKeeper(self._on_topology)
        self._users = UserKeeper(
            _open_users(settings),
            get_tag=lambda: self._lease.uid,
            list_in_use=lambda: self._seats.list_in_use(),
            on_change=self.work.add,
        )
        self._seats = UserSeats(self._users, self._watchers["Secret"], self._watchers["Pod"], self._index)
        self._poller = Poller(
            store=self._store,
            wanted=self._get_wanted,
            on_numbers=self._on_numbers,
            on_missing=self._keeper.report_missing,
            on_return=self._on_return,
            interval_seconds=settings.interval_seconds,
        )
        self.reconciler = self._build_reconciler()
        self._ready_at = time.monotonic()
        self._ready = False

    def _build_reconciler(self) -> Reconciler:
        events, injection = EventSender(self._kube), Injection.from_files(read_injected_files())
        return Reconciler(
            kube=self._kube,
            brokers=self._brokers,
            poller=self._poller,
            keeper=self._keeper,
            seats=self._seats,
            applier=Applier(self._kube, self._store, events, self.work.give_way),
            events=events,
            watchers=self._watchers,
            injection=InjectionKeeper(self._kube, injection, self._watchers["ConfigMap"], self._index),
            may_write=lambda: self._lease.is_leader,
            enqueue=self.work.add,
            fleet=self._fleet,
            index=self._index,
        )

    def check_alive(self) -> str | None:
        """What is wrong when the poller is stuck."""
        last = max(self._poller.beat_at or 0.0, self._ready_at)
        silent = time.monotonic() - last
        limit = STALE_POLLS * max(1.0, self._settings.interval_seconds)
        return f"no round of polling has ended for {silent:.0f} s" if self._ready and silent > limit else None

    def check_ready(self) -> str | None:
        """A standby is ready too: it can take over, as long as it can read the Lease."""
        if self._lease.problem:
            return self._lease.problem
        return None if self._ready or not self._lease.is_leader else "listing objects"

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop. Raises RuntimeError when leadership is lost: the process must end."""
        probes = ProbeServer({"/healthz": self.check_alive, "/readyz": self.check_ready}, self._settings.probes_port)
        await probes.start()
        try:
            await _first(stop.wait(), self._lease.wait_acquired())
            if not stop.is_set():
                await self._lead(stop)
        finally:
            await self._lease.release()
            await probes.stop()
            await self._store.close()
            await self._kube.close()

    async def _lead(self, stop: asyncio.Event) -> None:
        lost = asyncio.create_task(self._lease.wait_lost(), name="lease")
        watchers = {**self._watchers, POLICY_KIND: self._policies}
        loops = [asyncio.create_task(watcher.run(), name=f"watch-{kind}") for kind, watcher in watchers.items()]
        try:
            listed = asyncio.create_task(wait_for_crd(self._kube, self._settings.namespace))
            await _first(stop.wait(), listed, asyncio.shield(lost))
            for watcher in watchers.values():
                await _first(stop.wait(), watcher.synced.wait(), asyncio.shield(lost))
            if listed.done() and not listed.cancelled():
                ours = [item for item in listed.result() if get_shard(item) == self._settings.shard]
                seed_fleet(self._fleet, ours, self._watchers["Deployment"])
            await self.work.start()
            loops += [
                asyncio.create_task(self._watch_task_queues(stop), name="kopf"),
                asyncio.create_task(self._sweep(), name="sweep"),
                asyncio.create_task(self._poller.run(), name="poller"),
                asyncio.create_task(self._users.run(), name="broker-users"),
                asyncio.create_task(self._store.listen(self._on_wake), name="wake"),
                asyncio.create_task(self._register(), name="registry"),
                asyncio.create_task(report_decisions(self._store, self._get_decisions), name="decisions"),
                asyncio.create_task(keep_policies(self._fleet, self._kube, self._is_known), name="policies"),
            ]
            self._ready, self._ready_at = True, time.monotonic()
            await _first(stop.wait(), asyncio.shield(lost), *map(asyncio.shield, loops))
            if not stop.is_set():
                ended = next((task for task in (lost, *loops) if task.done()), lost)
                raise RuntimeError(f"{ended.get_name()} ended") from (None if ended is lost else ended.exception())
        finally:
            self._ready = False
            await self.work.stop()
            await end_tasks((lost, *loops))
            await self._keeper.close()

    async def _watch_task_queues(self, stop: asyncio.Event) -> None:
        namespace = self._settings.namespace
        await kopf.operator(
            registry=build_registry(self.reconciler, self.work.add),
            settings=build_settings(),
            standalone=True,
            clusterwide=namespace is None,
            namespaces=[namespace] if namespace else [],
            stop_flag=stop,
        )
        # kopf takes the process's signals for itself and ends; the rest of the operator follows.
        stop.set()

    async def _sweep(self) -> None:
        await sweep_deleted(self._kube, self._settings.namespace, self.reconciler, self.work.add)

    async def _register(self) -> None:
        await register_queues(
            self._store,
            lambda: self._index.revision,
            lambda: build_all_registrations(self._index, self._brokers, self._settings.broker_name),
        )

    def _get_wanted(self) -> dict[BrokerAccess, set[str]]:
        """The queues to read. The operator's own broker is read also while no queue lives there."""
        return {self._brokers.default: set(), **self._index.get_wanted()}

    def _get_decisions(self) -> Iterator[tuple[str, Decision, bool]]:
        return iterate_decisions(self.reconciler.remembered.values())

    def _on_child(self, child: dict[str, object]) -> None:
        key = find_owner_key(child)
        if key is not None:
            self.work.add(key)

    def _is_known(self, key: str) -> bool:
        return self._index.is_ours(key)

    def _on_policy(self, policy: dict[str, Any]) -> None:
        if get_shard(policy["metadata"]) == self._settings.shard:
            read_policy(self._fleet, self._policies, policy)
        else:
            self._fleet.remove_policy(get_key(policy))  # another shard's, which counts its own TaskQueues

    def _on_numbers(self, broker: BrokerAccess | None, queues: set[str]) -> None:
        for key in self._index.find_keys(broker, queues):
            if self._index.is_ours(key):
                self.work.add(key)

    def _on_topology(self, broker: BrokerAccess, queue: str) -> None:
        self._on_numbers(broker, {queue})

    def _on_return(self, broker: BrokerAccess) -> None:
        self._keeper.report_return(broker)
        if self._brokers.is_default(broker):
            self._users.report_return()

    def _on_wake(self, queue: str) -> None:
        self._poller.wake(queue)


def _build_lease(settings: OperatorSettings, kube: Kube) -> Lease:
    return Lease(
        kube,
        namespace=settings.lease_namespace,
        name=settings.lease_name_of_shard,
        identity=settings.identity,
        duration_seconds=settings.lease_seconds,
        renew_seconds=settings.lease_seconds / 5,
    )


def _open_users(settings: OperatorSettings) -> QueueUsers | None:
    """None without the login of an administrator. Raises ValueError when the default broker is no RabbitMQ."""
    if settings.broker_users_url is None:
        return None
    if not is_amqp_url(settings.broker_address):
        raise ValueError("broker_users_url is for RabbitMQ, and broker_url names another broker")
    return QueueUsers(settings.broker_users_url.get_secret_value(), parse_amqp_url(settings.broker_address)[0])


def _call_later(seconds: float, call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, call)


async def _first(*waits: Awaitable[object]) -> None:
    """Wait until one of these is over; the others are cancelled (shield what must go on)."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
