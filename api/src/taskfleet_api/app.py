"""The composition root: builds the app from settings, opens what it needs while it runs, and closes it again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from taskfleet_api import documentation, health, metrics
from taskfleet_api.authentication import Authentication
from taskfleet_api.background import Background, options_from
from taskfleet_api.brokers import open_dead_letters, open_publisher, open_topology
from taskfleet_api.errors import add_error_handlers
from taskfleet_api.keys import endpoints as key_endpoints
from taskfleet_api.keys.ring import KeyRing
from taskfleet_api.keys.service import Keys
from taskfleet_api.kubernetes_access import KubernetesAccess, find_kubernetes_url
from taskfleet_api.live import LiveStore
from taskfleet_api.metrics import ObservedMetrics
from taskfleet_api.middleware import Instrumentation, ProxyHeaders
from taskfleet_api.oidc_access import OidcAccess, OidcRules
from taskfleet_api.openapi import build_openapi
from taskfleet_api.queues import endpoints as queue_endpoints
from taskfleet_api.queues.service import Queues
from taskfleet_api.records import GroupCommit, Records, open_records
from taskfleet_api.references import REFERENCES, mount_references, run_references
from taskfleet_api.schedules import endpoints as schedule_endpoints
from taskfleet_api.schedules.service import Schedules
from taskfleet_api.settings import Settings
from taskfleet_api.tasks import endpoints as task_endpoints
from taskfleet_api.tasks.admission import BacklogGate, OpenStreams
from taskfleet_api.tasks.hot import HotSubmissions
from taskfleet_api.tasks.rates import RateLimits
from taskfleet_api.tasks.reading import Tasks
from taskfleet_api.tasks.service import Services
from taskfleet_api.tasks.submitting import Submissions
from taskfleet_api.telemetry import register_collector, unregister_collector
from taskfleet_core.errors import RecordsUnavailableError
from taskfleet_core.statistics import open_statistics

__all__ = ["Api", "create_app"]

DATABASE_START_SECONDS = 60.0
DATABASE_RETRY_SECONDS = 1.0
MAX_COMMIT_TASKS = 1000
log = structlog.get_logger()


class Api(FastAPI):
    """The app with the short way of submissions in front, and a count of the requests in hand."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            title="Taskfleet",
            version=version("taskfleet-api"),
            lifespan=_run,
            redirect_slashes=False,
            docs_url=None,  # a page of our own
            redoc_url=None,
            openapi_tags=[
                {"name": "tasks", "description": "Submit, read, follow, cancel and retry tasks."},
                {"name": "queues", "description": "Queues, their figures and their dead letters."},
                {"name": "schedules", "description": "Periodic tasks."},
                {"name": "keys", "description": "Who may call, and what for."},
                {"name": "health", "description": "Probes and metrics."},
            ],
        )
        self.state.settings = settings
        self.state.services = None
        self.requests_in_hand = 0
        self._root_path = settings.root_path
        self.keys = KeyRing(settings.admin_key.get_secret_value()) if settings.admin_key else None
        self.hot = HotSubmissions(super().__call__, settings.root_path, self.keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the lifespan."""
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        # A proxy may strip the prefix or not; the framework copes with both once it knows the prefix.
        if self._root_path:
            scope["root_path"] = self._root_path
        self.requests_in_hand += 1
        try:
            if self.hot.handles(scope):
                await self.hot(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            self.requests_in_hand -= 1

    def begin_shutdown(self) -> None:
        """End waits and streams and answer probes with `stopping`; other requests still get their answers."""
        if self.state.services is not None:
            self.state.services.streams.close()

    def openapi(self) -> dict[str, object]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            self.openapi_schema = build_openapi(self, self._root_path, secured=self.keys is not None)
        return self.openapi_schema


def create_app(settings: Settings) -> Api:
    """The app; nothing is opened before its lifespan begins."""
    app = Api(settings)
    mount_references(app, settings.references)
    modules = (task_endpoints, queue_endpoints, schedule_endpoints, key_endpoints, health, metrics, documentation)
    routers = [module.router for module in modules]
    for router in routers:
        app.include_router(router)
    add_error_handlers(app, [*(REFERENCES[name] for name in settings.references), *routers])
    # The last one added is the outermost.
    if app.keys is not None:
        app.add_middleware(Authentication, keys=app.keys)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Location", "Retry-After", "Preference-Applied", "Idempotency-Replayed"],
        )
    app.add_middleware(Instrumentation)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeaders, trusted=settings.trusted_proxies)
    return app


@asynccontextmanager
async def _run(app: FastAPI) -> AsyncIterator[None]:
    """Open everything in order of need; close in the opposite order, tasks in memory first."""
    settings: Settings = app.state.settings
    assert isinstance(app, Api)
    async with AsyncExitStack() as stack:
        services = await _open_services(settings, app.keys, stack)
        if app.keys is not None:
            await _equip(app.keys, services, stack)
        await services.background.start()
        stack.push_async_callback(services.background.stop, settings.shutdown_timeout_seconds)
        await stack.enter_async_context(_running_gate(services.gate))
        services.observed.services = services
        register_collector(services.observed)
        stack.callback(unregister_collector, services.observed)
        app.state.services = app.hot.services = services
        await stack.enter_async_context(run_references(app, services))
        log.info("api_started", references=list(settings.references))
        try:
            yield
        finally:
            app.begin_shutdown()
            await _wait_for_requests(app, settings.shutdown_timeout_seconds)
            log.info("api_stopping")


async def _open_services(settings: Settings, ring: KeyRing | None, stack: AsyncExitStack) -> Services:
    broker_url = settings.broker_url.get_secret_value()
    management_url, metrics_url = (
        url.get_secret_value() if url else None for url in (settings.broker_management_url, settings.broker_metrics_url)
    )
    records = await open_records(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_pool_size,
        republish_grace_seconds=settings.republish_grace_seconds,
    )
    stack.push_async_callback(records.close)
    await _migrate(records)
    group = GroupCommit(records, max_batch=MAX_COMMIT_TASKS, max_waiting=settings.max_pending_submissions)
    stack.push_async_callback(group.close)
    live = LiveStore(settings.redis_url.get_secret_value())
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
    background = Background(
        records=records,
        publisher=publisher,
        topology=topology,
        dead_letters=open_dead_letters(broker_url),
        statistics=statistics,
        live=live,
        broker_url=broker_url,
        options=options_from(settings),
    )
    gate = BacklogGate(records, settings.max_backlog)
    streams = OpenStreams(settings.max_streams)
    tasks = Tasks(records=records, live=live, dispatcher=background.dispatcher, directory=background.directory)
    submissions = Submissions(
        settings=settings,
        records=records,
        group=group,
        dispatcher=background.dispatcher,
        directory=background.directory,
        gate=gate,
        rates=RateLimits(settings.submit_rate_per_caller, settings.submit_rate_per_queue),
        streams=streams,
        tasks=tasks,
    )
    return Services(
        settings=settings,
        records=records,
        group=group,
        publisher=publisher,
        topology=topology,
        live=live,
        background=background,
        dispatcher=background.dispatcher,
        directory=background.directory,
        monitor=background.monitor,
        gate=gate,
        streams=streams,
        submissions=submissions,
        tasks=tasks,
        queues=Queues(records=records, background=background, tasks=tasks, live=live),
        schedules=Schedules(records=records, directory=background.directory),
        keys=Keys(records=records, ring=ring),
        observed=ObservedMetrics(),
    )


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
        known = services.directory.get(queue)
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


@asynccontextmanager
async def _running_gate(gate: BacklogGate) -> AsyncIterator[None]:
    counting = asyncio.create_task(gate.run(), name="backlog-gate")
    try:
        yield
    finally:
        counting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await counting


async def _wait_for_requests(app: Api, seconds: float) -> None:
    """Let open requests finish; waits and streams have been ended already."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while app.requests_in_hand:  # noqa: ASYNC110 - once, at the end
                await asyncio.sleep(0.02)
