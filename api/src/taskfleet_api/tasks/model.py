"""What goes into and comes out of the submissions service. Plain data."""

from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from uuid import UUID

import msgspec

from taskfleet_api.records.model import RetryPolicy
from taskfleet_core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from taskfleet_core.states import TaskState

__all__ = [
    "ANONYMOUS",
    "HeldBackError",
    "NewSubmission",
    "SubmittedTask",
    "UnknownQueueError",
    "build_unknown_task_error",
]

ANONYMOUS = "anonymous"
NAMES_SHOWN = 20


class NewSubmission(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task as a caller wants it. JSON stays the caller's own text; it must be valid JSON of the right kind.

    A Struct, not a dataclass: one is made per request and a frozen dataclass of this size takes ten times as long.
    """

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
    callback_url: str | None = None
    idempotency_key: str | None = None
    body_hash: bytes | None = None


class SubmittedTask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the first answer of a submission says."""

    id: UUID
    state: TaskState
    queue: str
    task: str
    created_at: datetime
    attempt: int = 1
    replayed: bool = False


class HeldBackError(ConflictError):
    """A good item of an atomic batch in which another one was refused."""

    def __init__(self) -> None:
        super().__init__("Not accepted: another item of this atomic batch was refused.")


class UnknownQueueError(NotFoundError):
    """No queue of that name is registered; says which are."""

    def __init__(self, name: str, existing: Sequence[str]) -> None:
        likely = get_close_matches(name, existing, NAMES_SHOWN, cutoff=0.5)
        shown = list(dict.fromkeys([*likely, *existing]))[:NAMES_SHOWN]
        more = f" and {len(existing) - len(shown)} more" if len(existing) > len(shown) else ""
        there_are = f"There are: {', '.join(shown)}{more}." if shown else "No queue is registered yet."
        super().__init__(f"There is no queue {name[:80]!r}. {there_are}")
        self.extras: dict[str, Any] = {"queues": shown}


def build_unknown_task_error(queue: str, task: str, known: Sequence[str], pointer: str) -> InvalidInputError:
    """The workers of the queue announced their tasks and this is none of them."""
    likely = get_close_matches(task, known, 5, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(name) for name in likely)}?" if likely else ""
    if not likely and len(known) <= NAMES_SHOWN:
        hint = f" They announced: {', '.join(sorted(known))}."
    detail = f"The workers of queue {queue!r} know no task {task[:80]!r}.{hint}"
    return InvalidInputError(detail, (FieldError(pointer, detail),))
