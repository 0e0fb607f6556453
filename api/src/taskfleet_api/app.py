"""Builds the app from settings; while it runs, its services are open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from taskfleet_api import documentation, health, metrics
from taskfleet_api.authentication import Authentication
from taskfleet_api.composition import open_services
from taskfleet_api.console import endpoints as console_endpoints
from taskfleet_api.crowding import refuse_crowd
from taskfleet_api.errors import add_error_handlers
from taskfleet_api.keys import endpoints as key_endpoints
from taskfleet_api.keys.ring import KeyRing
from taskfleet_api.middleware import Instrumentation, ProxyHeaders
from taskfleet_api.openapi import build_openapi
from taskfleet_api.queues import endpoints as queue_endpoints
from taskfleet_api.references import find_references, run_references
from taskfleet_api.schedules import endpoints as schedule_endpoints
from taskfleet_api.settings import Settings
from taskfleet_api.tasks import endpoints as task_endpoints
from taskfleet_api.tasks import event_endpoints, submission_endpoints
from taskfleet_api.tasks.hot import HotSubmissions
from taskfleet_api.tasks.service import Services
from taskfleet_api.telemetry import register_collector, unregister_collector
from taskfleet_core.ending import end_task

__all__ = ["Api", "create_app"]

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
        self._max_open_requests = settings.max_open_requests
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
        if scope["method"] == "POST" and self._is_crowded():
            await refuse_crowd(scope, receive, send, self._max_open_requests)
            return
        self.requests_in_hand += 1
        try:
            if self.hot.handles(scope):
                await self.hot(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            self.requests_in_hand -= 1

    def _is_crowded(self) -> bool:
        """Whether one more submission would only make all wait longer. Waits and streams have a bound of their own."""
        if self.requests_in_hand < self._max_open_requests:
            return False
        services: Services | None = self.state.services
        return self.requests_in_hand - (services.streams.count if services else 0) >= self._max_open_requests

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
    modules = (
        submission_endpoints,
        task_endpoints,
        event_endpoints,
        queue_endpoints,
        schedule_endpoints,
        key_endpoints,
        health,
        metrics,
        documentation,
    )
    routers = [*find_references(settings.references), *(module.router for module in modules)]
    if settings.console:
        routers.append(console_endpoints.build_router(settings.root_path))
    # Not by include_router: it would build each route a second time, for each app, and search routers in routers.
    app.router.routes.extend(route for router in routers for route in router.routes)
    add_error_handlers(app)
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
        services = await open_services(settings, app.keys, stack)
        await services.background.start()
        stack.push_async_callback(services.background.stop, settings.shutdown_timeout_seconds)
        await stack.enter_async_context(_running("backlog-gate", services.admission.gate.run()))
        await stack.enter_async_context(_running("rates", services.admission.rates.run()))
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


@asynccontextmanager
async def _running(name: str, work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        await end_task(task)


async def _wait_for_requests(app: Api, seconds: float) -> None:
    """Let open requests finish; waits and streams have been ended already."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while app.requests_in_hand:  # noqa: ASYNC110 - once, at the end
                await asyncio.sleep(0.02)
