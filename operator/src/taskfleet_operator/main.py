"""The operator's process: `python -m taskfleet_operator`."""

import asyncio
import signal
import sys
import threading

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.process_collector import ProcessCollector

from taskfleet_core.errors import TaskfleetError
from taskfleet_operator.kube import open_kube
from taskfleet_operator.metrics import OperatorCollector
from taskfleet_operator.replica import Operator
from taskfleet_operator.settings import OperatorSettings, load_settings

__all__ = ["main"]

_log = structlog.get_logger()


async def _serve(settings: OperatorSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    kube = await open_kube()
    operator = Operator(settings, kube)
    registry = CollectorRegistry()
    registry.register(OperatorCollector(operator.reconciler, operator.work))
    ProcessCollector(registry=registry)
    server, thread = start_http_server(settings.metrics_port, registry=registry)
    try:
        await operator.run(stop)
    finally:
        await asyncio.to_thread(_stop_server, server, thread)


def _stop_server(server: object, thread: threading.Thread) -> None:
    server.shutdown()  # type: ignore[attr-defined] # WSGIServer
    server.server_close()  # type: ignore[attr-defined]
    thread.join(5)


def main() -> int:
    """Run; the exit status is 0 after a signal, 1 after a lost Lease or a failure."""
    try:
        settings = load_settings()
    except ValueError as error:
        sys.stderr.write(f"taskfleet-operator: {error}\n")
        return 2
    renderer = structlog.processors.JSONRenderer() if settings.log_format == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), renderer]
    )
    try:
        asyncio.run(_serve(settings))
    except (TaskfleetError, RuntimeError) as error:
        _log.error("operator.stopped", error=str(error), cause=str(error.__cause__ or ""))
        return 1
    return 0
