"""What the API tells about itself: the one table of its metrics, their instruments, logging and trace context.

Lowest layer: adapters, background services and routers may count here; nothing here imports them.
"""

import logging
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from taskfleet_core.states import FINAL_STATES

__all__ = [
    "METRICS",
    "REGISTRY",
    "Metric",
    "configure_logging",
    "counter",
    "expose_zeros",
    "gauge",
    "histogram",
    "parse_traceparent",
]

SECONDS_FINE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SECONDS_WIDE = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 10_000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the documented table. `observed` metrics are computed when they are scraped."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    observed: bool = False
    values: tuple[str, ...] = ()  # all that the last label can be, so that the first of a kind is an increase from 0


METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("taskfleet_api_requests_total", "counter", ("method", "route", "status"), "HTTP requests answered."),
        Metric(
            "taskfleet_api_request_seconds",
            "histogram",
            ("method", "route"),
            "Time to the end of an answer; waits and streams not counted.",
            SECONDS_FINE,
        ),
        Metric(
            "taskfleet_api_submissions_total",
            "counter",
            ("queue", "outcome"),
            "Submitted tasks: accepted, or replayed for an idempotency key.",
        ),
        Metric(
            "taskfleet_api_refused_total",
            "counter",
            ("reason",),
            "Submitted tasks that were not accepted: invalid, not_found, conflict, overloaded, unavailable.",
            values=("invalid", "not_found", "conflict", "overloaded", "unavailable"),
        ),
        Metric(
            "taskfleet_api_streams",
            "gauge",
            ("kind",),
            "Open event streams and waiting requests.",
            values=("events", "wait"),
        ),
        Metric(
            "taskfleet_api_backlog", "gauge", (), "Accepted records not yet published; absent while unknown.", (), True
        ),
        Metric("taskfleet_api_commit_tasks", "histogram", (), "Tasks that shared one commit.", SIZES),
        Metric("taskfleet_api_commit_seconds", "histogram", (), "Time of one commit of new tasks.", SECONDS_FINE),
        Metric("taskfleet_api_dispatch_waiting", "gauge", (), "Committed tasks in memory for the broker.", (), True),
        Metric(
            "taskfleet_api_published_total",
            "counter",
            ("queue", "outcome"),
            "Messages sent: confirmed, returned, nacked, timeout, connection.",
        ),
        Metric(
            "taskfleet_api_publish_seconds", "histogram", (), "Time from sending to the broker's confirm.", SECONDS_FINE
        ),
        Metric(
            "taskfleet_api_dependency_up",
            "gauge",
            ("dependency",),
            "1 while it answers: database, store, broker.",
            (),
            True,
        ),
        Metric("taskfleet_api_loop_healthy", "gauge", ("loop",), "1 while a background loop succeeds.", (), True),
        Metric(
            "taskfleet_recorder_events_total",
            "counter",
            ("outcome",),
            "Events of workers: applied, stale, unreadable.",
            values=("applied", "stale", "unreadable"),
        ),
        Metric("taskfleet_recorder_lag_seconds", "gauge", (), "Age of the last event when it was applied."),
        Metric(
            "taskfleet_tasks_finished_total",
            "counter",
            ("queue", "state"),
            "Attempts that ended, by final state; retrying where the platform tries again.",
            values=tuple(sorted(FINAL_STATES)),
        ),
        Metric("taskfleet_task_run_seconds", "histogram", ("queue",), "Run time of tasks.", SECONDS_WIDE),
        Metric("taskfleet_task_wait_seconds", "histogram", ("queue",), "Time from due to started.", SECONDS_WIDE),
        Metric(
            "taskfleet_sweeper_tasks_total",
            "counter",
            ("action",),
            "Tasks swept: published, expired, lost, reclaimed.",
            values=("published", "expired", "lost", "reclaimed"),
        ),
        Metric(
            "taskfleet_schedule_ticks_total",
            "counter",
            ("outcome",),
            "Ticks of schedules: submitted, skipped, refused.",
            values=("submitted", "skipped", "refused"),
        ),
        Metric(
            "taskfleet_callbacks_total",
            "counter",
            ("outcome",),
            "Calls of receivers: delivered, failed, given_up (failed for the last time).",
            values=("delivered", "failed", "given_up"),
        ),
        Metric("taskfleet_retention_deleted_total", "counter", (), "Finished records deleted because of their age."),
        Metric("taskfleet_queue_ready", "gauge", ("queue",), "Messages that wait; absent while unknown.", (), True),
        Metric(
            "taskfleet_queue_unacknowledged",
            "gauge",
            ("queue",),
            "Messages in workers' hands; absent while unknown.",
            (),
            True,
        ),
        Metric("taskfleet_queue_workers", "gauge", ("queue",), "Living workers; absent while unknown.", (), True),
        Metric("taskfleet_queue_slots", "gauge", ("queue",), "Tasks that the workers can run at once.", (), True),
        Metric("taskfleet_queue_busy_slots", "gauge", ("queue",), "Tasks that run now.", (), True),
    )
}

REGISTRY = CollectorRegistry(auto_describe=False)
ProcessCollector(registry=REGISTRY)


@cache
def counter(name: str) -> Counter:
    """The counter of that name in the table."""
    metric = _row(name, "counter")
    return Counter(name, metric.help, metric.labels, registry=REGISTRY)


@cache
def gauge(name: str) -> Gauge:
    """The gauge of that name in the table."""
    metric = _row(name, "gauge")
    return Gauge(name, metric.help, metric.labels, registry=REGISTRY)


@cache
def histogram(name: str) -> Histogram:
    """The histogram of that name in the table."""
    metric = _row(name, "histogram")
    return Histogram(name, metric.help, metric.labels, buckets=metric.buckets, registry=REGISTRY)


def _row(name: str, kind: str) -> Metric:
    metric = METRICS[name]
    if metric.kind != kind or metric.observed:
        raise ValueError(f"{name} is {'an observed' if metric.observed else 'a'} {metric.kind}, not a {kind}")
    return metric


def expose_zeros(queues: Iterable[str]) -> None:
    """Show what has not happened yet as 0 where the values of the labels are known.

    Prometheus takes a counter that appears with 1 for one that has always been 1: the first dead task of a queue would
    be no increase, and no alert.
    """
    _expose_process_zeros()
    for queue in queues:
        _expose_queue_zeros(queue)


@cache
def _expose_process_zeros() -> None:
    for metric in METRICS.values():
        if metric.kind == "counter" and not metric.labels:
            counter(metric.name)
        elif metric.values and metric.labels[0] != "queue":
            made = counter(metric.name) if metric.kind == "counter" else gauge(metric.name)
            for value in metric.values:
                made.labels(value)


@cache
def _expose_queue_zeros(queue: str) -> None:
    """Few for each queue: a scrape of a thousand queues must not hold up requests."""
    for metric in METRICS.values():
        if metric.values and metric.labels[0] == "queue":
            for value in metric.values:
                counter(metric.name).labels(queue, value)


def register_collector(collector: Collector) -> None:
    """Add a collector of observed metrics; the composition root removes it again."""
    REGISTRY.register(collector)


def unregister_collector(collector: Collector) -> None:
    """Remove a collector."""
    REGISTRY.unregister(collector)


_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
TRACEPARENT_LENGTH = 55


def parse_traceparent(value: str | None) -> str | None:
    """The caller's trace context if it is valid; anything else is ignored, as W3C Trace Context asks."""
    if value is None or len(value) != TRACEPARENT_LENGTH or _TRACEPARENT.fullmatch(value) is None:
        return None
    return value


def configure_logging(log_format: Literal["json", "console"], level: str) -> None:
    """Write structlog's and the standard library's lines in one format to standard error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.UnicodeDecoder(),
    ]
    last: list[structlog.types.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    # One line for each poll of the broker's statistics would bury everything else.
    for name in ("httpx", "alembic"):
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
