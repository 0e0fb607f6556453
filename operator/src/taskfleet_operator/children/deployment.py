"""The worker Deployment: the user's image with the loader, the backend and the boot steps injected from a ConfigMap.

`replicas` is never part of what is built here: it belongs to scaling.
"""

from typing import Any

from taskfleet_core import wire
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.children.metadata import build_child_metadata
from taskfleet_operator.children.secret import AUTHORITY_KEY, BACKEND_KEY, BROKER_KEY, REDIS_KEY, build_secret_hash
from taskfleet_operator.names import (
    BROKER_USER,
    CONTAINER,
    SECRET_HASH,
    build_labels,
    build_selector,
    get_child_name,
)
from taskfleet_operator.observed import Credentials
from taskfleet_operator.overlay import merge

__all__ = ["build_deployment"]

INJECTION_PATH = "/opt/taskfleet"
INJECTION_ARCHIVE = "worker.zip"
AUTHORITY_PATH = "/opt/taskfleet-ca"
# The same pool by its other name: Celery takes `-P prefork` for "nothing said", and the app's `worker_pool` instead.
POOL_ARGUMENTS = {"prefork": "processes"}
LOADER = "taskfleet_worker.loader:Loader"
HEALTH_FILE = "/tmp/taskfleet-health"
# The kubelet kills at the end of the grace period: the drain step hands back a little earlier.
GRACE_MARGIN_SECONDS = 15
# A pod has no readiness probe (a ReplicaSet would remove busy pods first that are not Ready), so a broken image is told
# from a good one by whether it is still running after this time.
MIN_READY_SECONDS = 10
HEALTH_MAX_AGE_SECONDS = 60
NON_ROOT_USER = 10001


def build_deployment(queue: TaskQueue, *, injection: str, credentials: Credentials) -> dict[str, Any]:
    """The Deployment. `injection` names the ConfigMap with the worker package."""
    worker = queue.spec.worker
    annotations = {SECRET_HASH: build_secret_hash(credentials)}
    if credentials.broker_user:
        annotations[BROKER_USER] = credentials.broker_user
    template = {
        "metadata": {
            "labels": {**queue.metadata.labels, **build_labels(queue.name)},
            "annotations": annotations,
        },
        "spec": _build_pod_spec(queue, injection),
    }
    if credentials.confined:
        _confine(template["spec"], credentials.confined)
    if credentials.authorities:
        _add_authorities(template["spec"], queue, credentials)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": build_child_metadata(queue),
        "spec": {
            "selector": {"matchLabels": build_selector(queue.name)},
            "minReadySeconds": MIN_READY_SECONDS,
            "revisionHistoryLimit": 3,
            # A rollout may take as long as the tasks that it waits for.
            "progressDeadlineSeconds": max(600, worker.effective_grace_seconds + 600),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": merge(template, worker.template),
        },
    }


def _build_pod_spec(queue: TaskQueue, injection: str) -> dict[str, Any]:
    return {
        "serviceAccountName": get_child_name(queue.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": queue.spec.worker.effective_grace_seconds + GRACE_MARGIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NON_ROOT_USER,
            "runAsGroup": NON_ROOT_USER,
            "fsGroup": NON_ROOT_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": build_selector(queue.name)},
            }
        ],
        "containers": [_build_container(queue)],
        "volumes": [
            {"name": "taskfleet", "configMap": {"name": injection}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _confine(pod: dict[str, Any], confined: str) -> None:
    """Tell the worker that its broker user is the queue's own, which no heartbeats of Celery's may send."""
    (container,) = pod["containers"]
    container["command"] += ["--without-heartbeat"]
    container["env"] = [{"name": wire.ENV_CONFINED, "value": confined}, *container["env"]]


def _add_authorities(pod: dict[str, Any], queue: TaskQueue, credentials: Credentials) -> None:
    """Have the worker trust what signs for the store, and for the broker unless that is one of the user's own."""
    (container,) = pod["containers"]
    variables = [wire.ENV_REDIS_CA_FILE, *([wire.ENV_BROKER_CA_FILE] if credentials.is_default_broker else [])]
    own = [{"name": name, "value": f"{AUTHORITY_PATH}/{AUTHORITY_KEY}"} for name in variables]
    container["env"] = own + container["env"]
    container["volumeMounts"].append({"name": "taskfleet-ca", "mountPath": AUTHORITY_PATH, "readOnly": True})
    # This key alone: the URLs beside it are for the environment.
    source = {"secretName": get_child_name(queue.name), "items": [{"key": AUTHORITY_KEY, "path": AUTHORITY_KEY}]}
    pod["volumes"].append({"name": "taskfleet-ca", "secret": source})


def _build_container(queue: TaskQueue) -> dict[str, Any]:
    worker = queue.spec.worker
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": worker.image,
        "imagePullPolicy": "IfNotPresent",
        "command": _build_command(queue),
        "env": _build_env(queue),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "livenessProbe": _build_liveness(),
        # What a worker said last becomes part of the pod's status, and of the TaskQueue's conditions.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "taskfleet", "mountPath": INJECTION_PATH, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    if worker.env_from:
        container["envFrom"] = worker.env_from
    if worker.resources:
        container["resources"] = worker.resources
    return container


def _build_command(queue: TaskQueue) -> list[str]:
    worker = queue.spec.worker
    command = ["celery", "-A", worker.app, "worker", "-Q", ",".join(queue.queue_weights)]
    command += ["-c", str(worker.concurrency), "-P", POOL_ARGUMENTS.get(worker.pool, worker.pool), "-l", "INFO"]
    return [
        *command,
        "--prefetch-multiplier",
        "1",
        "-O",
        "fair",
        "--without-gossip",
        "--without-mingle",
        "-n",
        "celery@%h",
    ]


def _build_env(queue: TaskQueue) -> list[dict[str, Any]]:
    worker = queue.spec.worker
    values = {
        "CELERY_LOADER": LOADER,
        wire.ENV_QUEUE: queue.queue_name,
        wire.ENV_MAX_TASK_SECONDS: worker.max_task_seconds,
        wire.ENV_GRACE_SECONDS: worker.effective_grace_seconds,
        wire.ENV_ACCEPT_CONTENT: ",".join(worker.accept_content),
        wire.ENV_DELIVERY_LIMIT: queue.spec.delivery.limit,
        wire.ENV_HEALTH_FILE: HEALTH_FILE,
        wire.ENV_LOG_FORMAT: "json",
    }
    if len(queue.queue_weights) > 1:
        values[wire.ENV_QUEUES] = ",".join(f"{name}={weight}" for name, weight in queue.queue_weights.items())
    env: list[dict[str, Any]] = [{"name": name, "value": str(value)} for name, value in values.items()]
    env += [
        {"name": wire.ENV_HOST, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": wire.ENV_POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        *(
            _from_secret(queue, name, BROKER_KEY)
            for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
        ),
        _from_secret(queue, wire.ENV_REDIS_URL, REDIS_KEY),
        _from_secret(queue, "CELERY_RESULT_BACKEND", BACKEND_KEY),
    ]
    own_path = f"{INJECTION_PATH}/{INJECTION_ARCHIVE}"
    users = [dict(entry) for entry in worker.env]
    for entry in users:
        if entry["name"] == "PYTHONPATH" and "value" in entry:
            entry["value"] = f"{entry['value']}:{own_path}"
    if not any(entry["name"] == "PYTHONPATH" for entry in users):
        env.append({"name": "PYTHONPATH", "value": own_path})
    if not any(entry["name"] == "HOME" for entry in users):
        env.append({"name": "HOME", "value": "/tmp"})  # the user id is in no image's /etc/passwd
    return env + users


def _from_secret(queue: TaskQueue, name: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": get_child_name(queue.name), "key": key}}}


def _build_liveness() -> dict[str, Any]:
    """The worker's loop touches the health file each second. The shell starts in a millisecond, Python in a hundred."""
    age = f'[ "$(( $(date +%s) - $(stat -c %Y {HEALTH_FILE}) ))" -lt {HEALTH_MAX_AGE_SECONDS} ]'
    return {
        "exec": {"command": ["/bin/sh", "-c", age]},
        "initialDelaySeconds": 60,
        "periodSeconds": 20,
        "timeoutSeconds": 10,
        "failureThreshold": 3,
    }
