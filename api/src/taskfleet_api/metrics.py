"""`/metrics` for Prometheus: the instruments of this process and what is observed when it is scraped."""

from collections.abc import Iterable, Mapping

from fastapi import APIRouter
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.responses import Response

from taskfleet_api.health import check_dependencies
from taskfleet_api.queues.service import build_figures
from taskfleet_api.requests import ServicesOf
from taskfleet_api.tasks.service import Services
from taskfleet_api.telemetry import METRICS, REGISTRY, expose_zeros

__all__ = ["ObservedMetrics", "router"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
QUEUE_FIGURES = {
    "taskfleet_queue_ready": "ready",
    "taskfleet_queue_unacknowledged": "unacknowledged",
    "taskfleet_queue_workers": "workers",
    "taskfleet_queue_slots": "slots",
    "taskfleet_queue_busy_slots": "busy",
}
router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(services: ServicesOf) -> Response:
    """Every metric of this replica. What is unknown has no sample."""
    checks = await check_dependencies(services)
    services.observed.dependencies = {name: check["up"] for name, check in checks.items() if ":" not in name}
    expose_zeros(services.background.directory.names())
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE})


class ObservedMetrics(Collector):
    """Gauges that are read from the services at each scrape."""

    def __init__(self) -> None:
        self.services: Services | None = None
        self.dependencies: dict[str, bool] = {}

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing before the services are there."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Every observed metric that has a value now."""
        services = self.services
        if services is None:
            return
        backlog = services.admission.gate.backlog
        yield _build("taskfleet_api_backlog", {} if backlog is None else {(): backlog})
        yield _build("taskfleet_api_dispatch_waiting", {(): services.background.dispatcher.waiting})
        yield _build("taskfleet_api_dependency_up", {(name,): up for name, up in self.dependencies.items()})
        health = services.background.health()
        yield _build("taskfleet_api_loop_healthy", {(name,): loop.healthy for name, loop in health.items()})
        figures = {name: build_figures(status) for name, status in services.background.monitor.all().items()}
        for metric, figure in QUEUE_FIGURES.items():
            samples: dict[tuple[str, ...], float] = {
                (queue,): values[figure] for queue, values in figures.items() if values[figure] is not None
            }
            yield _build(metric, samples)


def _build(name: str, samples: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    row = METRICS[name]
    family = GaugeMetricFamily(name, row.help, labels=row.labels)
    for labels, value in samples.items():
        family.add_metric(labels, float(value))
    return family
