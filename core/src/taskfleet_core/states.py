"""Task states and their order. Pure data and rules, shared by every part; the worker carries a generated copy."""

from enum import StrEnum

__all__ = ["FINAL_STATES", "TRANSITIONS", "TaskState", "position", "supersedes"]

ATTEMPT_SPAN = 1_000_000
FINAL_OFFSET = ATTEMPT_SPAN - 1
RETRY_SPAN = 10
MAX_RETRIES_IN_POSITION = FINAL_OFFSET // RETRY_SPAN - 1


class TaskState(StrEnum):
    """The states of a task, in the words of the HTTP API."""

    SCHEDULED = "scheduled"
    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD = "dead"

    @property
    def is_final(self) -> bool:
        """Whether no further change follows within the same attempt."""
        return self in FINAL_STATES


FINAL_STATES = frozenset(
    {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED, TaskState.DEAD}
)

_RANK = {
    TaskState.SCHEDULED: 0,
    TaskState.PENDING: 1,
    TaskState.QUEUED: 2,
    TaskState.RUNNING: 3,
    TaskState.RETRYING: 4,
}

_OPEN_NEXT = FINAL_STATES | {TaskState.QUEUED, TaskState.RUNNING, TaskState.RETRYING}
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.SCHEDULED: frozenset(_OPEN_NEXT | {TaskState.PENDING}),
    TaskState.PENDING: frozenset(_OPEN_NEXT),
    TaskState.QUEUED: frozenset(_OPEN_NEXT - {TaskState.QUEUED}),
    TaskState.RUNNING: frozenset(_OPEN_NEXT - {TaskState.QUEUED}),
    TaskState.RETRYING: frozenset(_OPEN_NEXT),
    # A final state is left only by a new attempt: redrive, `:retry` or the platform's own retry.
    **{state: frozenset({TaskState.PENDING, TaskState.RETRYING}) for state in FINAL_STATES},
}


def position(attempt: int, retries: int, state: TaskState, *, ends_attempt: bool = False) -> int:
    """The place of a state in a task's life as one number: later is larger.

    `attempt` counts from 1 (first publication, redrive, platform retry); `retries` is Celery's own retry counter
    within the attempt. `ends_attempt` says that a non-final state (retrying) closes the attempt: the platform will
    start the next one. Final states always rank behind everything else of their attempt.
    """
    if state.is_final or ends_attempt:
        return attempt * ATTEMPT_SPAN + FINAL_OFFSET
    return attempt * ATTEMPT_SPAN + min(retries, MAX_RETRIES_IN_POSITION) * RETRY_SPAN + _RANK[state]


def supersedes(new: int, old: int, state: TaskState) -> bool:
    """Whether an observation at position `new` replaces one at `old`.

    A second `running` at the same position is a redelivery to another worker and replaces the first; a second final
    state of the same attempt does not.
    """
    return new > old or (new == old and state is TaskState.RUNNING)
