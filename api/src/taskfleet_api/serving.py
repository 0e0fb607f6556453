"""Serving the app in this process with granian, until a signal asks it to stop."""

import asyncio
import gc
import signal
import sys

import structlog
import uvloop
from granian.constants import HTTPModes, Interfaces, SSLProtocols, TaskImpl
from granian.http import HTTP1Settings
from granian.server.embed import Server

from taskfleet_api.app import Api, create_app
from taskfleet_api.settings import Settings
from taskfleet_api.telemetry import configure_logging

__all__ = ["serve"]

log = structlog.get_logger()


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. One process: what is killed leaves nothing behind."""
    configure_logging(settings.log_format, settings.log_level)
    return uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    app = create_app(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        # The server does not see the lifespan: it would end it only after every connection has gone.
        async with app.router.lifespan_context(app):
            _settle_collector()
            return await _serve_until(stopping, app, settings)
    except Exception:
        log.exception("serving_failed")
        return 1


def _settle_collector() -> None:
    """Let the garbage collector forget what will live as long as the process.

    A full collection of everything that is imported takes 100 ms, and a batch of 10,000 tasks would set off several.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _serve_until(stopping: asyncio.Event, app: Api, settings: Settings) -> int:
    """Serve; then let open requests end, streams and waits at once, and the rest within the shutdown time."""
    server = build_server(app, settings)
    serving = asyncio.create_task(server.serve(), name="server")
    asked = asyncio.create_task(stopping.wait(), name="stop-signal")
    await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        asked.cancel()
        log.error("server_ended", error=repr(serving.exception()))
        return 1
    app.begin_shutdown()
    server.stop()  # type: ignore[no-untyped-call]  # granian leaves it untyped
    _, late = await asyncio.wait({serving}, timeout=settings.shutdown_timeout_seconds)
    log.info("server_stopped", requests_cut=app.requests_in_hand)
    return 1 if late else 0


def build_server(app: Api, settings: Settings) -> Server:
    """The server with its bounds."""
    return Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        task_impl=TaskImpl.asyncio,
        # While the server waits to see which version of HTTP it will be, it has no time limit: who connects and says
        # nothing would keep the connection for ever, and a few thousand of them keep everybody else out.
        http=HTTPModes.http1,
        websockets=False,
        backlog=settings.listen_backlog,
        # Streams hold a request each: they must not keep the others out.
        backpressure=settings.listen_backlog + settings.max_streams,
        http1_settings=HTTP1Settings(header_read_timeout=int(settings.header_timeout_seconds * 1000)),
        log_enabled=False,
        ssl_cert=settings.tls_certificate_file,
        ssl_key=settings.tls_key_file,
        ssl_protocol_min=SSLProtocols.tls12,
    )


def main() -> None:
    """Entry point of `python -m taskfleet_api`."""
    sys.exit(serve(Settings()))
