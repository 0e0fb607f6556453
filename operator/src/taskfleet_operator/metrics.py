"""Metrics of the operator, names and labels in one place. Values are read at scrape time: nothing goes stale."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from taskfleet_core.statistics import sum_statistics
from taskfleet_operator.names import Reason
from taskfleet_operator.observing import select_beats
from taskfleet_operator.reconciling import Reconciler
from taskfleet_operator.samples import Sample, build_limit_samples, build_samples
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
    """Turns what the operator knows into samples. What is unknown has no sample: unknown is not zero.

    It is asked in a thread of its own, and copies what may change under it.
    """

    def __init__(self, reconciler: Reconciler, work: WorkQueue) -> None:
        self._reconciler = reconciler
        self._work = work

    def describe(self) -> Iterable[Any]:
        """Names alone, so that registering reads nothing."""
        return self._build_families().values()

    def collect(self) -> Iterable[Any]:
        """All samples of this moment."""
        families = self._build_families()
        limits = build_limit_samples(self._reconciler.fleet.get_usages())
        for sample in (*self._collect_queues(), *limits, *self._collect_process()):
            if sample.value is not None:
                families[sample.name].add_metric(sample.labels, sample.value)
        return families.values()

    def _collect_queues(self) -> Iterator[Sample]:
        """Those of all TaskQueues, with the broker's figures of this moment."""
        index, poller = self._reconciler.index, self._reconciler.poller
        seen: set[tuple[str, str]] = set()
        for key, remembered in list(self._reconciler.remembered.items()):
            observed, entry = remembered.observed, index.entries.get(key)
            if observed is None or observed.conflict_with is not None or entry is None:
                continue  # of two on one queue, the one that serves it tells
            queue = observed.queue
            labels = {(queue.metadata.namespace, name) for name in queue.queue_weights}
            if labels & seen:
                continue  # the same name at another broker: one series may come once only
            seen |= labels
            numbers = {name: poller.get(entry.access, name) for name in queue.queue_weights}
            is_refused = observed.statistics_reason == Reason.BROKER_CREDENTIALS_REFUSED
            figures = {name: None if is_refused else each.statistics for name, each in numbers.items()}
            has_namesakes = index.has_namesakes(queue.queue_name)
            beats = select_beats(numbers[queue.queue_name].heartbeats, observed.pods, has_namesakes=has_namesakes)
            fresh = replace(observed, statistics=sum_statistics(list(figures.values())), heartbeats=beats)
            yield from build_samples(fresh, remembered.decision, remembered.causes, figures)

    def _collect_process(self) -> Iterator[Sample]:
        poller = self._reconciler.poller
        polled_at = None if poller.beat_at is None else time.time() - (time.monotonic() - poller.beat_at)
        yield Sample("taskfleet_operator_poll_seconds", (), poller.round_seconds)
        yield Sample("taskfleet_operator_poll_timestamp_seconds", (), polled_at)
        yield Sample("taskfleet_operator_reconciles", (), self._reconciler.reconciled)
        yield Sample("taskfleet_operator_leader", (), float(self._reconciler.may_write()))
        yield Sample("taskfleet_operator_work_queue_depth", (), self._work.depth)

    @staticmethod
    def _build_families() -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
        kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
        return {name: kinds[kind](name, text, labels=labels) for name, (kind, labels, text) in METRICS.items()}
