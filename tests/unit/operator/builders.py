"""What the operator has observed of a TaskQueue, and policies, for tests without a cluster."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from taskfleet_core.statistics import QueueStatistics
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.observed import Credentials, Observed, PodFacts
from taskfleet_operator.planning import build_plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def build_observed(spec=None, **changes):
    """An idle TaskQueue with its Deployment at zero."""
    worker = {"image": "app:1", "app": "app:celery", "concurrency": 2, **(spec or {}).pop("worker", {})}
    raw = {
        "apiVersion": "taskfleet.dev/v1alpha1",
        "kind": "TaskQueue",
        "metadata": {"name": "q", "namespace": "team", "uid": "u1", "annotations": changes.pop("annotations", {})},
        "spec": {"worker": worker, **(spec or {})},
    }
    queue = TaskQueue.model_validate(raw)
    observed = Observed(
        queue=queue,
        raw={**raw, "metadata": {**raw["metadata"], "generation": 3}},
        credentials=Credentials("amqp://b", "redis://r"),
        children={("Deployment", "q-worker"): build_deployment(0)},
        statistics=build_statistics(0),
        heartbeats=(),
    )
    return replace(observed, **changes)


def build_deployment(replicas):
    """A Deployment as read."""
    return {
        "metadata": {"name": "q-worker", "namespace": "team", "resourceVersion": "7"},
        "spec": {"replicas": replicas},
    }


def build_statistics(ready, unacknowledged=0):
    """The broker's figures."""
    return QueueStatistics(ready, unacknowledged, None, None, None, 0.0)


def build_pods(count):
    """Running pods with idle workers."""
    pods = tuple(PodFacts(f"p{n}", f"p{n}", NOW - timedelta(seconds=60), True, False) for n in range(count))
    beats = tuple(
        {"pod_uid": pod.uid, "host": pod.name, "busy": 0, "consuming": True, "slots": 2, "started_at": 0.0}
        for pod in pods
    )
    return pods, beats


def get_condition(plan, kind):
    """One condition of the status."""
    return next(item for item in plan.status["conditions"] if item["type"] == kind)


def plan(observed):
    """Decide at a fixed time."""
    return build_plan(observed, "injection", NOW, 1000.0)


def build_policy(name: str, maximum: object, **selector: object) -> dict:
    """A policy as the API server tells of it."""
    namespace, _, name = name.partition("/")
    return {
        "apiVersion": "taskfleet.dev/v1alpha1",
        "kind": "TaskQueuePolicy",
        "metadata": {"name": name, "namespace": namespace, "generation": 4},
        "spec": {"maxReplicas": maximum, "selector": selector},
    }
