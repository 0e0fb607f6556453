"""Serving the app in this process with granian, until a signal asks it to stop."""

import asyncio
import signal
import sys

import structlog
import uvloop
from granian.constants import Interfaces, TaskImpl
from granian.http import HTTP1Settings
from granian.server.embed import Server

from taskfleet_api.app import create_app
from taskfleet_api.settings import Settings
from taskfleet_api.telemetry import configure_logging

__all__ = ["serve"]

log = structlog.get_logger()


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. One process: what is killed leaves nothing behind."""
    configure_logging(settings.log_format, settings.log_level)
    return uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    server = build_server(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    try:
        await server.serve()
    except Exception:
        log.exception("serving_failed")
        return 1
    return 0


def build_server(settings: Settings) -> Server:
    """The server with its bounds."""
    return Server(
        create_app(settings),
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        task_impl=TaskImpl.asyncio,
        websockets=False,
        backlog=settings.listen_backlog,
        # Streams hold a request each: they must not keep the others out.
        backpressure=settings.listen_backlog + settings.max_streams,
        http1_settings=HTTP1Settings(header_read_timeout=int(settings.header_timeout_seconds * 1000)),
        log_enabled=False,
    )


def main() -> None:
    """Entry point of `python -m taskfleet_api`."""
    sys.exit(serve(Settings()))
