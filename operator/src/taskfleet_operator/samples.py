"""The numbers of one TaskQueue as metric samples. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from taskfleet_core.events import Heartbeat
from taskfleet_core.scaling import Decision
from taskfleet_core.statistics import QueueStatistics
from taskfleet_operator.fleet_pool import Usage
from taskfleet_operator.observed import Observed
from taskfleet_operator.planning import is_acting

__all__ = ["Sample", "build_limit_samples", "build_samples"]


class Sample(NamedTuple):
    """One value; None means unknown and is not exported."""

    name: str
    labels: tuple[str, ...]
    value: float | None


def build_samples(
    observed: Observed,
    decision: Decision | None,
    causes: dict[str, int],
    figures: Mapping[str, QueueStatistics | None],
) -> Iterator[Sample]:
    """Everything that Prometheus learns of one TaskQueue; `figures` are those of each of its queues."""
    labels = (observed.queue.metadata.namespace, observed.queue.queue_name)
    for name, each in figures.items():
        yield from _statistics((labels[0], name), each)
    if observed.heartbeats is not None:
        yield from _slots(labels, observed.heartbeats)
    scaling = observed.queue.spec.scaling
    # With the rule by depth nobody has promised a wait.
    target = scaling.target_wait_seconds if scaling.target_queue_depth is None else None
    yield Sample("taskfleet_queue_target_wait_seconds", labels, target)
    yield Sample("taskfleet_scaling_active", labels, float(is_acting(observed)))
    yield Sample("taskfleet_workers", labels, sum(not pod.is_terminating for pod in observed.pods))
    yield Sample("taskfleet_tasks_completed", labels, observed.completed)
    yield Sample("taskfleet_task_run_seconds", labels, observed.run_seconds_sum)
    yield Sample("taskfleet_worker_startup_seconds", labels, observed.startup_seconds)
    if decision is not None:
        yield Sample("taskfleet_workers_desired", labels, decision.replicas)
        if observed.statistics is not None:
            yield Sample("taskfleet_queue_wait_seconds", labels, decision.terms.wait_seconds)
            yield Sample("taskfleet_queue_arrivals_per_second", labels, decision.terms.arrivals_per_second)
    for cause, count in dict(causes).items():  # a copy: metrics are read in a thread of their own
        yield Sample("taskfleet_scaling_decisions", (*labels, cause), count)


def build_limit_samples(usages: Iterable[tuple[str, Usage]]) -> Iterator[Sample]:
    """What Prometheus learns of limits on several TaskQueues."""
    for key, usage in usages:
        namespace, _, policy = key.partition("/")
        yield Sample("taskfleet_fleet_limit_replicas", (namespace, policy), usage.maximum)
        yield Sample("taskfleet_fleet_used_replicas", (namespace, policy), usage.used)
        yield Sample("taskfleet_fleet_wanted_replicas", (namespace, policy), usage.wanted)


def _statistics(labels: tuple[str, str], figures: QueueStatistics | None) -> Iterator[Sample]:
    yield Sample("taskfleet_queue_statistics_available", labels, float(figures is not None))
    if figures is None:
        return
    yield Sample("taskfleet_queue_messages", (*labels, "ready"), figures.ready)
    yield Sample("taskfleet_queue_messages", (*labels, "unacknowledged"), figures.unacknowledged)
    yield Sample("taskfleet_queue_published", labels, figures.published)
    yield Sample("taskfleet_queue_acknowledged", labels, figures.acknowledged)
    yield Sample("taskfleet_queue_consumers", labels, figures.consumers)


def _slots(labels: tuple[str, str], beats: tuple[Heartbeat, ...]) -> Iterator[Sample]:
    busy, slots = sum(beat["busy"] for beat in beats), sum(beat["slots"] for beat in beats)
    yield Sample("taskfleet_workers_ready", labels, sum(beat["consuming"] for beat in beats))
    yield Sample("taskfleet_worker_slots", (*labels, "busy"), busy)
    yield Sample("taskfleet_worker_slots", (*labels, "idle"), max(0, slots - busy))
