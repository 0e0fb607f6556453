"""What the API answers, as typed objects. Fields that a newer API adds are kept and ignored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from taskfleet.errors import TaskFailedError
from taskfleet_core.states import FINAL_STATES, TaskState

__all__ = [
    "ApiKey",
    "Event",
    "HistoryPoint",
    "Queue",
    "QueueHistory",
    "Retry",
    "ScalingChange",
    "Schedule",
    "Submission",
    "Task",
    "TaskAttempt",
    "TaskCallback",
    "TaskError",
    "TaskSignature",
]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class TaskError(_Answer):
    """Why a task failed, as its worker saw it."""

    type: str = ""
    message: str = ""
    traceback: str | None = None


class TaskAttempt(_Answer):
    """One earlier or present attempt of a task."""

    attempt: int
    state: TaskState
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str | None = None
    error: TaskError | None = None


class TaskCallback(_Answer):
    """How the callback of a task stands: waiting, pending, delivered or given_up."""

    url: str
    state: str
    tries: int = 0
    due_at: datetime | None = None
    last_status: int | None = None
    last_error: str | None = None


class Task(_Answer):
    """A task as the API knows it. A submission's first answer fills only the first six fields."""

    id: str
    queue: str
    task: str
    state: TaskState
    attempt: int = 1
    created_at: datetime
    retries: int = 0
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    metadata: Any = None
    priority: int | None = None
    eta: datetime | None = None
    expires_at: datetime | None = None
    due_at: datetime | None = None
    timeout_seconds: float | None = None
    published_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    updated_at: datetime | None = None
    worker: str | None = None
    result: Any = None
    error: TaskError | None = None
    progress: Any = None
    runtime_seconds: float | None = None
    origin: str | None = None
    cancel_requested: bool = False
    deliveries: int = 0
    callback: TaskCallback | None = None
    attempts: list[TaskAttempt] = Field(default_factory=list)

    @property
    def is_final(self) -> bool:
        """Whether nothing follows, unless somebody retries it."""
        return self.state in FINAL_STATES

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return self.state is TaskState.SUCCEEDED

    def raise_unless_succeeded(self) -> "Task":
        """Itself; raises TaskFailedError when it ended otherwise."""
        if self.is_final and not self.succeeded:
            raise TaskFailedError(self)
        return self


class Event(_Answer):
    """One change of a task: a new state, or progress within one."""

    event_id: str = ""
    kind: str = "state"
    id: str
    queue: str = ""
    task: str = ""
    state: TaskState
    attempt: int = 1
    retries: int = 0
    at: float | None = None
    worker: str | None = None
    progress: Any = None
    progress_count: int | None = None
    result: Any = None
    error: TaskError | None = None

    @property
    def is_final(self) -> bool:
        """Whether the task's attempt ended with it."""
        return self.kind == "state" and self.state in FINAL_STATES


class Queue(_Answer):
    """A queue with its figures; None means unknown, never zero."""

    name: str
    ready: int | None = None
    unacknowledged: int | None = None
    workers: int | None = None
    consuming: int | None = None
    slots: int | None = None
    busy: int | None = None
    arrivals_per_second: float | None = None
    completions_per_second: float | None = None
    decision: dict[str, Any] | None = None  # the last one about its workers
    records: dict[str, int] | None = None
    limits: dict[str, Any] = Field(default_factory=dict)


class HistoryPoint(_Answer):
    """What was seen of a queue in one interval; None means unknown, never zero."""

    at: datetime  # its beginning
    ready: int | None = None
    running: float | None = None
    oldest_wait_seconds: float | None = None
    desired: int | None = None
    workers: int | None = None
    arrivals_per_second: float | None = None
    finished: int | None = None
    failed: int | None = None
    wait_p50_seconds: float | None = None
    wait_p95_seconds: float | None = None


class ScalingChange(_Answer):
    """Another number of workers was wanted."""

    at: datetime
    before: int
    replicas: int
    reason: str | None = None


class QueueHistory(_Answer):
    """The history of a queue, the oldest first; an interval in which nobody looked is not there."""

    queue: str
    since: datetime
    until: datetime
    step_seconds: int
    points: list[HistoryPoint]
    decisions: list[ScalingChange]


class TaskSignature(_Answer):
    """A task name that workers of a queue have announced, with the JSON schema of its parameters."""

    name: str
    parameters: dict[str, Any] | None = None


class ApiKey(_Answer):
    """An API key; `key` is the secret, which only the answer to its creation holds."""

    name: str
    scopes: list[str]
    queues: list[str] | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    key: str | None = Field(default=None, repr=False)


class Schedule(_Answer):
    """A periodic task."""

    id: str
    queue: str
    task: str
    cron: str | None = None
    interval_seconds: float | None = None
    time_zone: str | None = None
    catch_up: str = "last"
    enabled: bool = True
    last_tick_at: datetime | None = None
    last_task_id: str | None = None
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When the platform starts a failed task again, after Celery's own retries ended."""

    max_attempts: int
    backoff_seconds: float = 1.0
    max_backoff_seconds: float = 300.0
    jitter: bool = True


@dataclass(frozen=True, slots=True)
class Submission:
    """A task to submit. `eta` and `countdown_seconds`, `expires_at` and `ttl_seconds` exclude one another."""

    queue: str
    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] | None = field(default=None, kw_only=True)
    priority: int | None = field(default=None, kw_only=True)
    eta: datetime | None = field(default=None, kw_only=True)
    countdown_seconds: float | None = field(default=None, kw_only=True)
    expires_at: datetime | None = field(default=None, kw_only=True)
    ttl_seconds: float | None = field(default=None, kw_only=True)
    retry: Retry | None = field(default=None, kw_only=True)
    timeout_seconds: float | None = field(default=None, kw_only=True)
    callback_url: str | None = field(default=None, kw_only=True)

    def build_document(self) -> dict[str, Any]:
        """The JSON object of the API; what is not set is left out."""
        retry = self.retry
        document = {
            "queue": self.queue,
            "task": self.task,
            "args": list(self.args) or None,
            "kwargs": dict(self.kwargs) or None,
            "metadata": dict(self.metadata) if self.metadata else None,
            "priority": self.priority,
            "eta": format_time(self.eta),
            "countdown_seconds": self.countdown_seconds,
            "expires_at": format_time(self.expires_at),
            "ttl_seconds": self.ttl_seconds,
            "retry": {name: getattr(retry, name) for name in retry.__slots__} if retry else None,
            "timeout_seconds": self.timeout_seconds,
            "callback_url": self.callback_url,
        }
        return {name: value for name, value in document.items() if value is not None}


def format_time(moment: datetime | None) -> str | None:
    """RFC 3339; a moment without a zone is local time."""
    return None if moment is None else moment.astimezone(UTC).isoformat()
