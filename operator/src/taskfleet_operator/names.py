"""Every name that the operator writes into Kubernetes: labels, annotations, children, conditions, event reasons;
and the annotations by which people tell it something."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from taskfleet_core.taskqueue import GROUP

__all__ = [
    "BROKER_USER",
    "CHILD_KINDS_BY_NAME",
    "CONTAINER",
    "DELETION_COST",
    "FIELD_MANAGER",
    "INJECTION_PREFIX",
    "MANAGED_SELECTOR",
    "MAX_UNAVAILABLE",
    "PAUSED",
    "QUEUE_LABEL",
    "ROTATE_USER",
    "SCALE_MANAGER",
    "SECRET_HASH",
    "SHARD_LABEL",
    "SPEC_HASH",
    "ConditionType",
    "PolicyConditionType",
    "Reason",
    "build_labels",
    "build_selector",
    "get_child_name",
    "get_selector_text",
    "get_shard",
]

FIELD_MANAGER = "taskfleet-operator"
SCALE_MANAGER = "taskfleet-scale"
MANAGED_SELECTOR = "app.kubernetes.io/managed-by=taskfleet-operator"
CONTAINER = "worker"
INJECTION_PREFIX = "taskfleet-worker-"
QUEUE_LABEL = f"{GROUP}/queue"
SHARD_LABEL = f"{GROUP}/shard"  # which operator serves it, where there are several
PAUSED = f"{GROUP}/paused"
MAX_UNAVAILABLE = f"{GROUP}/max-unavailable"  # of a TaskQueue: a percentage such as 25%, for a PodDisruptionBudget
SPEC_HASH = f"{GROUP}/spec-hash"
SECRET_HASH = f"{GROUP}/secret-hash"
BROKER_USER = f"{GROUP}/broker-user"  # of a worker pod: the user by which it is known to the broker
ROTATE_USER = f"{GROUP}/rotate-broker-user"  # of a TaskQueue: another value, another user
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


class ConditionType(StrEnum):
    """Conditions of a TaskQueue."""

    READY = "Ready"
    METRICS_AVAILABLE = "MetricsAvailable"
    SCALING_ACTIVE = "ScalingActive"
    SCALING_LIMITED = "ScalingLimited"
    WORKERS_HEALTHY = "WorkersHealthy"
    BROKER_USER_READY = "BrokerUserReady"


class PolicyConditionType(StrEnum):
    """Conditions of a TaskQueuePolicy."""

    READY = "Ready"
    LIMITING = "Limiting"


class Reason(StrEnum):
    """Stable reasons of conditions and events."""

    RECONCILED = "Reconciled"
    INVALID_SPEC = "InvalidSpec"
    FORBIDDEN = "Forbidden"
    QUEUE_CONFLICT = "QueueConflict"
    BROKER_SECRET_UNREADABLE = "BrokerSecretUnreadable"
    BROKER_USER_MADE = "BrokerUserMade"
    BROKER_USER_PENDING = "BrokerUserPending"
    BROKER_USER_REFUSED = "BrokerUserRefused"
    BROKER_USER_UNAVAILABLE = "BrokerUserUnavailable"
    QUEUE_DEGRADED = "QueueDegraded"
    QUEUE_PENDING = "QueuePending"
    QUEUE_UNAVAILABLE = "QueueUnavailable"
    QUEUE_MISSING = "QueueMissing"
    BROKER_UNREACHABLE = "BrokerUnreachable"
    BROKER_CREDENTIALS_REFUSED = "BrokerCredentialsRefused"
    STATISTICS_FRESH = "StatisticsFresh"
    STATISTICS_PENDING = "StatisticsPending"
    STATISTICS_UNREADABLE = "StatisticsUnreadable"
    PARTIAL = "Partial"
    SCALING = "Scaling"
    PAUSED = "Paused"
    PINNED = "Pinned"
    DRY_RUN = "DryRun"
    EXTERNAL = "External"
    WITHIN_LIMITS = "WithinLimits"
    AT_MAXIMUM = "AtMaximum"
    AT_MINIMUM = "AtMinimum"
    FLEET_LIMIT = "FleetLimit"
    APPLIED = "Applied"
    LIMIT_REACHED = "LimitReached"
    WORKERS_RUNNING = "WorkersRunning"
    NO_WORKERS_NEEDED = "NoWorkersNeeded"
    WORKERS_STARTING = "WorkersStarting"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    WORKERS_CRASHING = "WorkersCrashing"
    WORKERS_REFUSED = "WorkersRefused"
    APP_REFUSED = "AppRefused"
    SCALED_UP = "ScaledUp"
    SCALED_DOWN = "ScaledDown"


CHILD_KINDS_BY_NAME = ("ServiceAccount", "Secret", "Deployment", "PodDisruptionBudget")
"""Those of which a TaskQueue has one at most, under the name that `get_child_name` tells."""


def get_child_name(queue_name: str) -> str:
    """Name of the Deployment, ServiceAccount, Secret and PodDisruptionBudget of a TaskQueue."""
    return f"{queue_name}-worker"


def build_selector(name: str) -> dict[str, str]:
    """The labels that select the worker pods of a TaskQueue; they never change."""
    return {"app.kubernetes.io/name": "taskfleet-worker", QUEUE_LABEL: name}


def get_selector_text(name: str) -> str:
    """The same as one text, for status.selector."""
    return ",".join(f"{key}={value}" for key, value in build_selector(name).items())


def get_shard(metadata: Mapping[str, Any]) -> str:
    """The shard of an object by its label; empty without one."""
    return str((metadata.get("labels") or {}).get(SHARD_LABEL, ""))


def build_labels(name: str) -> dict[str, str]:
    """The labels of all children of a TaskQueue."""
    return {
        **build_selector(name),
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/managed-by": "taskfleet-operator",
    }
