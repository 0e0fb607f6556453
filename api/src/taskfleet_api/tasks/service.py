"""What can be done with tasks, independent of HTTP: every router (also of a reference contract) goes through here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from taskfleet_api.records.model import RetryPolicy, TaskRecord
from taskfleet_api.settings import Settings
from taskfleet_core.states import TaskState

if TYPE_CHECKING:
    from taskfleet_api.background import Background, Dispatcher, QueueDirectory
    from taskfleet_api.brokers import Publisher, Topology
    from taskfleet_api.live import LiveStore
    from taskfleet_api.records import GroupCommit, Page, Records, TaskFilter

__all__ = ["NewSubmission", "Services", "Submissions", "SubmittedTask", "Tasks"]

ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSubmission:
    """A task as a caller wants it. JSON stays the caller's own text; it must be valid JSON of the right kind."""

    queue: str
    task: str
    args_json: str = "[]"
    kwargs_json: str = "{}"
    metadata_json: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    priority: int | None = None
    eta: datetime | None = None
    expires_at: datetime | None = None
    countdown_seconds: float | None = None
    ttl_seconds: float | None = None
    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None
    traceparent: str | None = None
    origin: str = "api"
    principal: str = ANONYMOUS
    idempotency_key: str | None = None
    body_hash: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedTask:
    """What the first answer of a submission says."""

    id: UUID
    state: TaskState
    queue: str
    task: str
    created_at: datetime
    attempt: int = 1
    replayed: bool = False


class Submissions:
    """Accepting tasks and waiting for them."""

    async def submit(self, submission: NewSubmission) -> SubmittedTask:
        """Accept one task: its record is committed when this returns.

        Raises NotFoundError (queue), InvalidInputError (task name), ConflictError (idempotency key),
        OverloadedError and RecordsUnavailableError.
        """
        raise NotImplementedError

    async def submit_many(
        self, submissions: Sequence[NewSubmission], *, atomic: bool = False
    ) -> list["SubmittedTask | Exception"]:
        """Accept many in one transaction; an item's TaskfleetError stands in its place. `atomic`: all or nothing."""
        raise NotImplementedError

    async def wait(self, task_id: UUID, seconds: float) -> TaskRecord:
        """The record once it is final, or as it is when the time is over. Raises NotFoundError."""
        raise NotImplementedError


class Tasks:
    """Reading and steering accepted tasks."""

    async def get(self, task_id: UUID) -> TaskRecord:
        """The record overlaid with the live state. Raises NotFoundError."""
        raise NotImplementedError

    async def list(self, wanted: "TaskFilter", cursor: str | None = None, limit: int = 50) -> "Page":
        """One page, newest first. Raises InvalidInputError for a cursor that is not ours."""
        raise NotImplementedError

    async def cancel(self, task_id: UUID, *, terminate: bool = False) -> TaskRecord:
        """Cancel; a running task is stopped only with `terminate`. Raises NotFoundError and ConflictError."""
        raise NotImplementedError

    async def retry(self, task_id: UUID) -> TaskRecord:
        """Start a new attempt of a task that ended badly. Raises NotFoundError and ConflictError."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class Services:
    """Everything that routers need, built once by the composition root (`app.state.services`)."""

    settings: Settings
    records: "Records"
    group: "GroupCommit"
    publisher: "Publisher"
    topology: "Topology"
    live: "LiveStore"
    dispatcher: "Dispatcher"
    directory: "QueueDirectory"
    background: "Background"
    submissions: Submissions
    tasks: Tasks
    queues: Any = None
    schedules: Any = None
