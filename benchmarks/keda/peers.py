"""What is compared: Taskfleet, and KEDA in three settings, each on the same image, queue type, slots and most pods."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.support.cluster import APP_IMAGE, RELEASE, Cluster, build_queue
from tests.support.waiting import eventually_sync

from benchmarks.keda.loads import Servers, Submitted

__all__ = ["PEERS", "Keda", "Peer", "Shape", "TaskfleetPeer", "build_peers"]

SLOTS = 2
GONE_SECONDS = 180
QUEUE_LABEL = "bench.taskfleet.dev/queue"
CONFIG_NAME = "stock-celery"
# What Taskfleet's loader sets for durability; besides that Celery is as it comes.
CELERY_CONFIG = """import os
from kombu import Queue

task_acks_late = True
task_reject_on_worker_lost = True
worker_prefetch_multiplier = 1
task_ignore_result = True
task_default_queue = os.environ["BENCH_QUEUE"]
task_queues = [
    Queue(task_default_queue, routing_key=task_default_queue, queue_arguments={"x-queue-type": "quorum"})
]
"""
Json = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """What a case asks of a queue."""

    max_replicas: int = 10
    idle_seconds: int = 5
    grace_seconds: int = 30
    max_task_seconds: int = 30


class Peer(Protocol):
    """One side of the comparison."""

    name: str
    title: str
    poll_seconds: float
    goes_soon: bool  # whether an idle queue's pods go within a round

    def create(self, names: Sequence[str], shape: Shape) -> None:
        """Make the queues and what scales them; return when all are taken up."""

    def submit(self, queue: str, seconds: list[float], submitted: Submitted) -> None:
        """Send tasks that take so many seconds each."""

    def delete(self, names: Sequence[str]) -> None:
        """Remove all of it; return when no pod is left."""

    def deployment(self, queue: str) -> str:
        """Name of the Deployment."""

    def selector(self, queue: str) -> str:
        """Which pods are the queue's."""


@dataclass
class TaskfleetPeer:
    """TaskQueues on the installed chart."""

    cluster: Cluster
    servers: Servers
    name: str = "taskfleet"
    title: str = "Taskfleet"
    poll_seconds: float = 1.0
    goes_soon: bool = True

    def create(self, names: Sequence[str], shape: Shape) -> None:
        """Apply TaskQueues and wait until operator and API know them."""
        scaling = {"maxReplicas": shape.max_replicas, "idleSeconds": shape.idle_seconds}
        worker = {"maxTaskSeconds": shape.max_task_seconds, "gracePeriodSeconds": shape.grace_seconds}
        _create(self.cluster, [build_queue(name, scaling, concurrency=SLOTS, **worker) for name in names])
        _wait_ready(self.cluster, "taskqueue", names)
        queue = names[-1]
        eventually_sync(lambda: self.cluster.api.request("GET", f"/queues/{queue}").status_code == 200, 60, 0.3)

    def submit(self, queue: str, seconds: list[float], submitted: Submitted) -> None:
        """By one request to the API."""
        self.servers.submit(queue, seconds, submitted)

    def delete(self, names: Sequence[str]) -> None:
        """Delete the TaskQueues; their queues too."""
        self.cluster.delete(*names)
        _wait_gone(self.cluster, [self.selector(name) for name in names[:1]])
        self.servers.remove(*names)

    def deployment(self, queue: str) -> str:
        """The child's name."""
        return f"{queue}-worker"

    def selector(self, queue: str) -> str:
        """The operator's own label."""
        return f"taskfleet.dev/queue={queue}"


@dataclass
class Keda:
    """A plain Deployment of stock Celery workers with a ScaledObject."""

    cluster: Cluster
    servers: Servers
    name: str
    title: str
    poll_seconds: float
    goes_soon: bool
    trigger: Mapping[str, str]
    scaling: Mapping[str, Any] = field(default_factory=dict)

    def create(self, names: Sequence[str], shape: Shape) -> None:
        """Declare queues, create Deployments without pods and their ScaledObjects; return when those are Ready."""
        self.servers.declare(*names)
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_NAME}}
        self.cluster.kubectl("apply", "-f", "-", text=json.dumps(config | {"data": {"celeryconfig.py": CELERY_CONFIG}}))
        made = [self.build_scaled_object(name, shape) for name in names]
        _create(self.cluster, [*(build_deployment(name, shape) for name in names), *made])
        _wait_ready(self.cluster, "scaledobject", names)

    def build_scaled_object(self, name: str, shape: Shape) -> Json:
        """The ScaledObject."""
        trigger = {"type": "rabbitmq", "metadata": {"queueName": name, "mode": "QueueLength", **self.trigger}}
        spec = {
            "scaleTargetRef": {"name": self.deployment(name)},
            "maxReplicaCount": shape.max_replicas,
            "triggers": [trigger],
            **self.scaling,
        }
        return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name}, "spec": spec}

    def submit(self, queue: str, seconds: list[float], submitted: Submitted) -> None:
        """As a plain Celery producer."""
        self.servers.publish(queue, seconds, submitted)

    def delete(self, names: Sequence[str]) -> None:
        """The ScaledObjects first, so that nothing brings the pods back."""
        self.cluster.kubectl("delete", "scaledobject", *names, timeout_seconds=GONE_SECONDS)
        deployments = [self.deployment(name) for name in names]
        self.cluster.kubectl("delete", "deployment", *deployments, "--wait=false")
        _wait_gone(self.cluster, [self.selector(name) for name in names[:1]])
        self.servers.remove(*names)

    def deployment(self, queue: str) -> str:
        """Named as Taskfleet would."""
        return f"{queue}-worker"

    def selector(self, queue: str) -> str:
        """The label of the bench."""
        return f"{QUEUE_LABEL}={queue}"


def build_deployment(queue: str, shape: Shape) -> Json:
    """Stock Celery as most people run it: the same command line, security and no limits, as Taskfleet's workers."""
    command = ["celery", "-A", "jobs:app", "worker", "-Q", queue, "-c", str(SLOTS), "-P", "prefork", "-l", "INFO"]
    command += ["--prefetch-multiplier", "1", "-O", "fair", "--without-gossip", "--without-mingle", "-n", "celery@%h"]
    labels = {QUEUE_LABEL: queue}
    env: list[Json] = [
        {"name": "BENCH_QUEUE", "value": queue},
        {"name": "PYTHONPATH", "value": "/config"},
        {"name": "HOME", "value": "/tmp"},
        _from_secret("CELERY_BROKER_URL", "broker", "url"),
        _from_secret("CELERY_RESULT_BACKEND", "valkey", "url"),
        _from_secret("MANAGEMENT_URL", "broker", "adminManagementUrl"),
    ]
    container = {
        "name": "worker",
        "image": APP_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": env,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": shape.grace_seconds,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": CONFIG_NAME}}, {"name": "tmp", "emptyDir": {}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{queue}-worker"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _from_secret(name: str, secret: str, key: str) -> Json:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": f"{RELEASE}-{secret}", "key": key}}}


def _create(cluster: Cluster, items: list[Json]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("create", "-f", "-", text=text, timeout_seconds=GONE_SECONDS)


def _wait_ready(cluster: Cluster, kind: str, names: Sequence[str]) -> None:
    wanted = set(names)

    def are_ready() -> bool:
        ready = set()
        for item in cluster.find(kind):
            conditions = (item.get("status") or {}).get("conditions") or []
            if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                ready.add(item["metadata"]["name"])
        return wanted <= ready

    eventually_sync(are_ready, 400, 0.5)


def _wait_gone(cluster: Cluster, selectors: Sequence[str]) -> None:
    for selector in selectors:
        eventually_sync(lambda selector=selector: not cluster.find("pods", selector), GONE_SECONDS, 1)


# One poll a second; gone after five idle seconds; as many pods at once as there are, up and down. The 15 s between two
# looks of the HPA controller are a flag of Kubernetes' own controller manager, and no setting of KEDA.
TUNED: Json = {
    "pollingInterval": 1,
    "cooldownPeriod": 5,
    "advanced": {
        "horizontalPodAutoscalerConfig": {
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": 5,
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
                },
            }
        }
    },
}
AMQP = {"protocol": "amqp", "hostFromEnv": "CELERY_BROKER_URL"}
HTTP = {"protocol": "http", "hostFromEnv": "MANAGEMENT_URL"}
KEDAS: dict[str, tuple[str, float, bool, Json, Json]] = {
    "keda-defaults": ("KEDA, documented defaults", 30.0, False, AMQP | {"value": "20"}, {}),
    "keda-amqp": ("KEDA tuned, AMQP: ready", 1.0, True, AMQP | {"value": str(SLOTS)}, TUNED),
    "keda-http": ("KEDA tuned, HTTP: ready + unacknowledged", 1.0, True, HTTP | {"value": str(SLOTS)}, TUNED),
}
PEERS = ("taskfleet", *KEDAS)


def build_peers(cluster: Cluster, servers: Servers, names: Sequence[str]) -> list[Peer]:
    """The chosen sides, in their order."""
    made: dict[str, Peer] = {"taskfleet": TaskfleetPeer(cluster, servers)}
    for name, (title, poll, goes_soon, trigger, scaling) in KEDAS.items():
        made[name] = Keda(cluster, servers, name, title, poll, goes_soon, trigger, scaling)
    return [made[name] for name in PEERS if name in names]


def wait_for_phase(peer: Peer, number: int, rounds: int) -> None:
    """Spread the rounds evenly over the time between two polls, so that no round meets the best moment by chance."""
    time.sleep(max(0.0, (number - 0.5) / rounds) * peer.poll_seconds)
