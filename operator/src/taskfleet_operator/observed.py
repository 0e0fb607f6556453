"""What one reconcile has seen and what it wants. Data only; what could not be read is None, never zero."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taskfleet_core.events import Heartbeat
from taskfleet_core.scaling import Decision, Memory
from taskfleet_core.statistics import QueueStatistics
from taskfleet_core.taskqueue import TaskQueue

__all__ = ["Credentials", "EventToSend", "Observed", "Plan", "PodFacts", "ScaleStep", "UserState"]

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Credentials:
    """How workers reach the broker and the store. Goes into the worker's Secret and nowhere else."""

    broker_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    # Certificates (PEM) of the authorities that sign for the store and, where `is_default_broker`, for the broker.
    authorities: str | None = field(default=None, repr=False)
    is_default_broker: bool = True
    broker_user: str | None = None  # the queue's own user, where it has one
    confined: str | None = None  # what its workers are told of that user


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One worker pod."""

    name: str
    uid: str
    created_at: datetime
    is_ready: bool
    is_terminating: bool
    deletion_cost: int | None = None
    waiting_reason: str | None = None  # of the worker container: ImagePullBackOff, CrashLoopBackOff, ...
    waiting_message: str | None = None
    restarts: int = 0
    last_exit_message: str | None = None
    has_ended: bool = False  # its processes are gone; only the object is left
    refusal: str | None = None  # what the injected loader said when it would not run the app
    unscheduled: str | None = None  # why the scheduler finds no node for it


@dataclass(frozen=True, slots=True)
class UserState:
    """How far the broker user of a TaskQueue is."""

    name: str
    is_ready: bool = False  # it is at the broker with its rights, as far as is known
    error: str | None = None  # of the last try
    is_refused: bool = False  # the operator may not manage users
    notes: tuple[str, ...] = ()  # what of the spec cannot be had


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a decision is made from."""

    queue: TaskQueue
    raw: Manifest  # the TaskQueue as read, for metadata and status
    credentials: Credentials | None
    credentials_error: str | None = None
    children: dict[tuple[str, str], Manifest] = field(default_factory=dict)  # (kind, name) -> as read
    pods: tuple[PodFacts, ...] = ()
    statistics: QueueStatistics | None = None
    statistics_error: str | None = None
    statistics_reason: str | None = None  # a stable reason beside it
    heartbeats: tuple[Heartbeat, ...] | None = None  # None: the store cannot be read
    silent: frozenset[str] = frozenset()  # uids of pods whose workers spoke before and do so no more
    startup_seconds: float | None = None
    memory: Memory | None = None
    fenced: frozenset[str] = frozenset()  # pod uids fenced by earlier plans
    conflict_with: str | None = None  # namespace/name of the older TaskQueue on the same queue
    topology_ready: bool = True  # the queue stands at the broker: workers find it
    topology_error: str | None = None
    degradations: tuple[str, ...] = ()
    unknown_fields: tuple[str, ...] = ()  # of the spec, which a newer CRD lets through
    user: UserState | None = None  # of the queue's own broker user, where it shall have one
    completed: int = 0  # tasks finished by workers of this queue so far, also by those that are gone
    run_seconds_sum: float = 0.0
    slow_share: float | None = None  # of tasks that ran longer than a third of the grace period; None: not known

    @property
    def deployment(self) -> Manifest | None:
        """The worker Deployment, if it exists."""
        return next((child for (kind, _), child in self.children.items() if kind == "Deployment"), None)


@dataclass(frozen=True, slots=True)
class ScaleStep:
    """One change of the Deployment's replicas, with the pods to prefer for removal."""

    replicas: int
    resource_version: str
    costs: dict[str, int] = field(default_factory=dict)  # pod name -> deletion cost, written first


@dataclass(frozen=True, slots=True)
class EventToSend:
    """An event on the TaskQueue."""

    kind: str  # Normal | Warning
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All writes of one reconcile, in this order."""

    apply: tuple[Manifest, ...] = ()
    fence: tuple[str, ...] = ()  # pod uids that take no new tasks from now on
    unfence: tuple[str, ...] = ()
    scale: ScaleStep | None = None
    status: Manifest = field(default_factory=dict)
    events: tuple[EventToSend, ...] = ()
    memory: Memory | None = None
    decision: Decision | None = None
    requeue_after_seconds: float | None = None
