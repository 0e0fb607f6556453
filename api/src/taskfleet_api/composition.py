"""Opens what the API stands on, and puts its services together."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from taskfleet_api.background import Background, options_from
from taskfleet_api.brokers import Publisher, Topology, open_dead_letters, open_publisher, open_topology
from taskfleet_api.callbacks import CallbackClient, CallbackPolicy, CallbackRules, decode_secret
from taskfleet_api.keys.ring import KeyRing
from taskfleet_api.keys.service import Keys
from taskfleet_api.kubernetes_access import KubernetesAccess, find_kubernetes_url
from taskfleet_api.live import LiveStore
from taskfleet_api.metrics import ObservedMetrics
from taskfleet_api.oidc_access import OidcAccess, OidcRules
from taskfleet_api.queues.history import Histories
from taskfleet_api.queues.service import Queues
from taskfleet_api.records import GroupCommit, Records, open_records
from taskfleet_api.schedules.service import Schedules
from taskfleet_api.settings import Settings
from taskfleet_api.tasks.admission import Admission, BacklogGate, OpenStreams
from taskfleet_api.tasks.callbacks import TaskCaller
from taskfleet_api.tasks.quotas import Quotas
from taskfleet_api.tasks.rates import RateLimits
from taskfleet_api.tasks.reading import Tasks
from taskfleet_api.tasks.service import Services
from taskfleet_api.tasks.submitting import Submissions
from taskfleet_api.tasks.watching import Listings
from taskfleet_core.errors import RecordsUnavailableError
from taskfleet_core.statistics import StatisticsReader, open_statistics

__all__ = ["open_services"]

DATABASE_START_SECONDS = 60.0
DATABASE_RETRY_SECONDS = 1.0
MAX_COMMIT_TASKS = 1000
log = structlog.get_logger()


async def open_services(settings: Settings, ring: KeyRing | None, stack: AsyncExitStack) -> Services:
    """Everything that routers need. `stack` closes it in the opposite order; `ring` learns whom to ask."""
    services = _build_services(settings, ring, await _open_connections(settings, stack))
    if ring is not None:
        await _equip(ring, services, stack)
    return services


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connections:
    """What must be opened, and is closed in the opposite order."""

    records: Records
    group: GroupCommit
    live: LiveStore
    publisher: Publisher
    topology: Topology
    statistics: StatisticsReader
    caller: TaskCaller | None


async def _open_connections(settings: Settings, stack: AsyncExitStack) -> _Connections:
    broker_url = settings.broker_address
    management_url, metrics_url = _find_broker_urls(settings)
    records = await open_records(
        settings.database_address,
        pool_size=settings.database_pool_size,
        republish_grace_seconds=settings.republish_grace_seconds,
    )
    stack.push_async_callback(records.close)
    await _migrate(records)
    group = GroupCommit(records, max_batch=MAX_COMMIT_TASKS, max_waiting=settings.max_pending_submissions)
    stack.push_async_callback(group.close)
    live = LiveStore(settings.redis_address)
    await live.start()
    stack.push_async_callback(live.close)
    publisher = open_publisher(
        broker_url, window=settings.publish_window, timeout_seconds=settings.publish_timeout_seconds
    )
    await publisher.start()
    stack.push_async_callback(publisher.close)
    topology = open_topology(broker_url, management_url)
    stack.push_async_callback(topology.close)
    statistics = open_statistics(broker_url, management_url, metrics_url)
    stack.push_async_callback(statistics.close)
    return _Connections(
        records=records,
        group=group,
        live=live,
        publisher=publisher,
        topology=topology,
        statistics=statistics,
        caller=_open_caller(settings, stack),
    )


def _open_caller(settings: Settings, stack: AsyncExitStack) -> TaskCaller | None:
    """What calls receivers; None without a secret."""
    policy = build_callback_policy(settings)
    if policy is None:
        return None
    client = CallbackClient(policy, settings.callback_timeout_seconds)
    stack.push_async_callback(client.close)
    return TaskCaller(client, [decode_secret(secret.get_secret_value()) for secret in settings.callback_secrets])


def build_callback_policy(settings: Settings) -> CallbackPolicy | None:
    """Which receivers may be called; None without a secret: then there are no callbacks."""
    if not settings.callback_secrets:
        return None
    rules = CallbackRules(settings.callback_allow, settings.callback_refuse, settings.callback_https_only)
    return CallbackPolicy(rules)


def _find_broker_urls(settings: Settings) -> tuple[str | None, str | None]:
    """Of the broker's management API and metrics, where they are not to be guessed."""
    management, metrics_url = settings.broker_management_url, settings.broker_metrics_url
    return (
        management.get_secret_value() if management else None,
        metrics_url.get_secret_value() if metrics_url else None,
    )


def _build_services(settings: Settings, ring: KeyRing | None, opened: _Connections) -> Services:
    records, live = opened.records, opened.live
    background = _build_background(settings, opened)
    directory, dispatcher = background.directory, background.dispatcher
    callbacks = build_callback_policy(settings)
    admission = _build_admission(settings, opened, background)
    streams = OpenStreams(settings.max_streams)
    tasks = Tasks(records=records, live=live, dispatcher=dispatcher, directory=directory)
    submissions = Submissions(
        settings=settings,
        records=records,
        group=opened.group,
        dispatcher=dispatcher,
        directory=directory,
        admission=admission,
        streams=streams,
        tasks=tasks,
        callbacks=callbacks,
    )
    return Services(
        settings=settings,
        records=records,
        publisher=opened.publisher,
        live=live,
        background=background,
        admission=admission,
        streams=streams,
        submissions=submissions,
        tasks=tasks,
        listings=Listings(tasks),
        queues=Queues(records=records, background=background, tasks=tasks, live=live),
        histories=Histories(records, directory),
        schedules=Schedules(records=records, directory=directory, callbacks=callbacks),
        keys=Keys(records=records, ring=ring),
        observed=ObservedMetrics(),
    )


def _build_background(settings: Settings, opened: _Connections) -> Background:
    return Background(
        records=opened.records,
        publisher=opened.publisher,
        topology=opened.topology,
        dead_letters=open_dead_letters(settings.broker_address),
        statistics=opened.statistics,
        live=opened.live,
        broker_url=settings.broker_address,
        options=options_from(settings),
        call=opened.caller,
    )


def _build_admission(settings: Settings, opened: _Connections, background: Background) -> Admission:
    rates = RateLimits(
        settings.submit_rate_per_caller,
        settings.submit_rate_per_queue,
        opened.live.settle_rates,
        lambda: background.replicas.living,
    )
    quotas = Quotas(opened.records, settings.max_unfinished_per_caller, settings.max_unfinished_per_queue)
    return Admission(rates, quotas, BacklogGate(opened.records, settings.max_backlog))


async def _equip(ring: KeyRing, services: Services, stack: AsyncExitStack) -> None:
    """Let the ring ask those who know of keys and tokens."""
    ring.fetch = services.records.fetch_key
    settings = services.settings
    if settings.oidc_issuer and settings.oidc_audience:
        ring.oidc = OidcAccess(
            OidcRules(
                settings.oidc_issuer,
                settings.oidc_audience,
                settings.oidc_principal_claim,
                settings.oidc_scopes_claim,
                settings.oidc_queues_claim,
            )
        )
        stack.push_async_callback(ring.oidc.close)
    if not settings.kubernetes_auth:
        return
    access = KubernetesAccess(
        settings.kubernetes_url or find_kubernetes_url(),
        token_file=settings.kubernetes_token_file,
        ca_file=settings.kubernetes_ca_file,
        audiences=settings.kubernetes_audiences,
    )
    stack.push_async_callback(access.close)

    def locate(queue: str) -> tuple[str, str] | None:
        known = services.background.directory.get(queue)
        return None if known is None else (known.registration["namespace"], known.registration["name"])

    access.locate = locate
    ring.kubernetes = access


async def _migrate(records: Records) -> None:
    """Bring the schema up to date; a database that starts beside us gets a minute."""
    deadline = time.monotonic() + DATABASE_START_SECONDS
    while True:
        try:
            await records.migrate()
        except RecordsUnavailableError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("database_not_ready", error=str(error))
            await asyncio.sleep(DATABASE_RETRY_SECONDS)
        else:
            return
