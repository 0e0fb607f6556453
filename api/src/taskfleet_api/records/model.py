"""What the records hold, as plain frozen data. No SQL here: importable by every layer above the database."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec

from taskfleet_core.errors import ConflictError
from taskfleet_core.states import TaskState

__all__ = [
    "Accepted",
    "ApplyResult",
    "AttemptRecord",
    "CallbackRecord",
    "CallbackState",
    "CancelOutcome",
    "KeyConflict",
    "KeyConflictError",
    "NewCallback",
    "NewTask",
    "Outcome",
    "Page",
    "RetryPolicy",
    "ScheduleRecord",
    "TaskFilter",
    "TaskRecord",
]

MAX_NAME_LENGTH = 255
"""Longest queue, task, worker, principal and schedule name, in characters."""

MAX_LABEL_LENGTH = 255
"""Longest key or value of a label; longer metadata values are kept, but cannot be filtered by."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often the platform runs a failing task and how long it waits between the attempts."""

    max_attempts: int
    backoff_seconds: float = 1.0
    max_backoff_seconds: float = 300.0
    jitter: bool = True


class CallbackState(enum.StrEnum):
    """How the callback of a task stands."""

    WAITING = "waiting"  # for the task's end
    PENDING = "pending"  # to be delivered, perhaps again
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class NewCallback(msgspec.Struct, frozen=True, gc=False):
    """Whom to call when the task has ended; `receiver` is the URL's host and port."""

    url: str
    receiver: str


@dataclass(frozen=True, slots=True)
class CallbackRecord:
    """The callback of a task. `attempt` is the one whose end is told, 0 before the first; `tries` counts the calls."""

    task_id: UUID
    url: str
    receiver: str
    state: CallbackState
    attempt: int
    tries: int
    due_at: datetime | None
    updated_at: datetime
    last_status: int | None = None
    last_error: str | None = None


class NewTask(msgspec.Struct, frozen=True, gc=False):
    """A submission, ready to be recorded. JSON fields are raw JSON text; all times are aware.

    A Struct because one is made per request: a frozen dataclass of this size takes 5 us more. It cannot be part of a
    cycle, so the collector need not look at the ten thousands of a batch.
    """

    id: UUID
    queue: str
    task: str
    created_at: datetime
    args_json: str = "[]"
    kwargs_json: str = "{}"
    metadata_json: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    priority: int | None = None
    eta: datetime | None = None
    expires_at: datetime | None = None
    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None
    traceparent: str | None = None
    origin: str = "api"
    principal: str = ""
    idempotency_key: str | None = None
    body_hash: bytes | None = None
    callback: NewCallback | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The task is recorded; `replayed` says that an earlier request with the same key had recorded it."""

    record_id: UUID
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class KeyConflict:
    """The idempotency key was used before with another body: nothing was recorded for this item."""

    key: str


Outcome = Accepted | KeyConflict


class KeyConflictError(ConflictError):
    """An atomic batch holds used idempotency keys: nothing was recorded. `conflicts` maps item index to key."""

    def __init__(self, conflicts: Mapping[int, KeyConflict]) -> None:
        super().__init__("an idempotency key was used before with another body")
        self.conflicts = conflicts


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """An earlier attempt of a task, as it stood when the next one began."""

    attempt: int
    state: TaskState
    position: int
    retries: int
    published_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str | None = None
    result: str | None = None
    error: str | None = None
    progress: str | None = None
    runtime_seconds: float | None = None
    deliveries: int = 0


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """The row of a task. `args`, `kwargs`, `metadata`, `result`, `error` and `progress` are raw JSON text.

    The fields from `published_at` to `progress` describe the current attempt. `due_at` is set while the sweeper has
    business with the task. `args` and `kwargs` are None for a task of a plain Celery producer whose content is unknown.
    """

    id: UUID
    queue: str
    task: str
    state: TaskState
    position: int
    attempt: int
    retries: int
    args: str | None
    kwargs: str | None
    metadata: str | None
    priority: int | None
    eta: datetime | None
    expires_at: datetime | None
    due_at: datetime | None
    retry: RetryPolicy | None
    timeout_seconds: float | None
    created_at: datetime
    published_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    worker: str | None
    result: str | None
    result_omitted_bytes: int | None
    error: str | None
    progress: str | None
    progress_count: int
    runtime_seconds: float | None
    traceparent: str | None
    origin: str
    cancel_requested: bool
    deliveries: int
    principal: str
    has_callback: bool | None = None
    earlier_attempts: tuple[AttemptRecord, ...] = ()
    callback: CallbackRecord | None = None

    @property
    def max_attempts(self) -> int:
        """How many attempts the platform makes: 1 without a retry policy."""
        return self.retry.max_attempts if self.retry else 1


class CancelOutcome(enum.Enum):
    """What a request to cancel met."""

    CANCELLED_NOW = "cancelled_now"  # it had not been published; a publish under way may still reach a worker
    NEEDS_WORKER = "needs_worker"  # queued or running: `cancel_requested` is set, tell the workers
    ALREADY_FINAL = "already_final"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What a batch of events changed."""

    applied: tuple[UUID, ...] = ()  # rows that changed, created ones included
    created: tuple[UUID, ...] = ()  # first seen tasks of plain Celery producers
    retry_scheduled: tuple[UUID, ...] = ()  # the platform's next attempt was started
    finished: tuple[UUID, ...] = ()  # went into a final state by this batch
    waits: tuple[tuple[UUID, float], ...] = ()  # of attempts first seen started: seconds since they were due
    malformed: int = 0  # events that cannot be recorded (no UUID, wrong types); they are skipped


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a listing shows; None or empty = all. The created range is [after, before)."""

    queue: str | None = None
    states: frozenset[TaskState] = frozenset()
    task: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    only_queues: tuple[str, ...] | None = None  # of all queues these; None: no bound


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, newest first; `next_cursor` is None on the last one."""

    items: list[TaskRecord] = field(default_factory=list)
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key without its secret. `queues` None: all."""

    name: str
    scopes: tuple[str, ...]
    queues: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A periodic task. `spec_json` is the schedule's whole definition; its meaning belongs to the ticker."""

    id: str
    queue: str
    task: str
    spec_json: str
    paused: bool
    next_at: datetime | None
    created_at: datetime
    updated_at: datetime
    last_tick_at: datetime | None = None
    last_task_id: UUID | None = None
