"""Metrics of the operator, names and labels in one place. Values are read at scrape time: nothing goes stale."""

from collections.abc import Iterable
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from taskfleet_operator.reconciling import Reconciler
from taskfleet_operator.samples import build_limit_samples
from taskfleet_operator.work_queue import WorkQueue

__all__ = ["METRICS", "OperatorCollector"]

QUEUE_LABELS = ("namespace", "queue")
LIMIT_LABELS = ("namespace", "policy")

# name -> (kind, labels, help)
METRICS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "taskfleet_queue_messages": ("gauge", (*QUEUE_LABELS, "state"), "Tasks at the broker: ready or unacknowledged."),
    "taskfleet_queue_published": ("counter", QUEUE_LABELS, "Tasks that came to the queue, as the broker counts."),
    "taskfleet_queue_acknowledged": ("counter", QUEUE_LABELS, "Tasks that left the queue, as the broker counts."),
    "taskfleet_queue_consumers": ("gauge", QUEUE_LABELS, "Consumers at the broker."),
    "taskfleet_queue_wait_seconds": ("gauge", QUEUE_LABELS, "Estimated wait of the last task in the queue."),
    "taskfleet_queue_target_wait_seconds": (
        "gauge",
        QUEUE_LABELS,
        "spec.scaling.targetWaitSeconds, where that is the rule.",
    ),
    "taskfleet_queue_arrivals_per_second": ("gauge", QUEUE_LABELS, "Arrival rate that the rule goes by."),
    "taskfleet_queue_statistics_available": ("gauge", QUEUE_LABELS, "1 while the broker's figures can be read."),
    "taskfleet_workers_desired": ("gauge", QUEUE_LABELS, "Worker pods that the rule wants."),
    "taskfleet_workers": ("gauge", QUEUE_LABELS, "Worker pods that exist."),
    "taskfleet_workers_ready": ("gauge", QUEUE_LABELS, "Worker pods that consume."),
    "taskfleet_worker_slots": ("gauge", (*QUEUE_LABELS, "state"), "Task slots of the workers: busy or idle."),
    "taskfleet_tasks_completed": ("counter", QUEUE_LABELS, "Tasks finished by workers, all outcomes."),
    "taskfleet_task_run_seconds": ("counter", QUEUE_LABELS, "Run time of the finished tasks."),
    "taskfleet_worker_startup_seconds": (
        "gauge",
        QUEUE_LABELS,
        "Pod created until first heartbeat, median of the last nine.",
    ),
    "taskfleet_scaling_active": ("gauge", QUEUE_LABELS, "1 while the operator scales: mode Active and not paused."),
    "taskfleet_scaling_decisions": ("counter", (*QUEUE_LABELS, "cause"), "Decisions by what ruled them."),
    "taskfleet_fleet_limit_replicas": (
        "gauge",
        LIMIT_LABELS,
        "Worker pods that a TaskQueuePolicy allows; without labels: the operator's own limit.",
    ),
    "taskfleet_fleet_used_replicas": ("gauge", LIMIT_LABELS, "Worker pods that count against the limit."),
    "taskfleet_fleet_wanted_replicas": ("gauge", LIMIT_LABELS, "Worker pods that the rules want of the limit."),
    "taskfleet_operator_poll_seconds": ("gauge", (), "Duration of the last round of reading."),
    "taskfleet_operator_poll_timestamp_seconds": ("gauge", (), "Unix time of the last complete round."),
    "taskfleet_operator_reconciles": ("counter", (), "Reconciles done."),
    "taskfleet_operator_work_queue_depth": ("gauge", (), "TaskQueues that wait for a reconcile."),
    "taskfleet_operator_leader": ("gauge", (), "1 on the replica that acts."),
}


class OperatorCollector(Collector):
    """Turns what the operator knows into samples. What is unknown has no sample: unknown is not zero."""

    def __init__(self, reconciler: Reconciler, work: WorkQueue) -> None:
        self._reconciler = reconciler
        self._work = work

    def describe(self) -> Iterable[Any]:
        """Names alone, so that registering reads nothing."""
        return self._build_families().values()

    def collect(self) -> Iterable[Any]:
        """All samples of this moment."""
        families = self._build_families()
        for sample in (*self._reconciler.get_samples(), *build_limit_samples(self._reconciler.fleet.get_usages())):
            if sample.value is not None:
                families[sample.name].add_metric(sample.labels, sample.value)
        for name, value in (
            *self._reconciler.get_process_samples(),
            ("taskfleet_operator_work_queue_depth", self._work.depth),
        ):
            if value is not None:
                families[name].add_metric((), value)
        return families.values()

    @staticmethod
    def _build_families() -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
        kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
        return {name: kinds[kind](name, text, labels=labels) for name, (kind, labels, text) in METRICS.items()}
