"""What events make of a task: pure rules, the same result for any order and duplication of the events.

Within an attempt the event with the largest position decides state, outcome and retries; the start is the earliest
that was seen, the worker the one last heard of, progress the one with the largest count. Only two final events of the
same attempt depend on the order: the first one stays.
"""

import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from taskfleet_api.records.model import MAX_NAME_LENGTH, RetryPolicy
from taskfleet_api.records.texts import clean_text, encode_json
from taskfleet_core.states import ATTEMPT_SPAN, TaskState, position

__all__ = [
    "Attempt",
    "Known",
    "Merged",
    "Observation",
    "build_retry_delay",
    "count_deliveries",
    "decide_start",
    "merge",
    "parse_event",
    "read_runtime",
]

_STATES = {state.value: state for state in TaskState}

MAX_COUNT = 2**31 - 1
MAX_ATTEMPT = MAX_COUNT - 1


@dataclass(slots=True)  # not frozen: that triples the time to make one, and each event makes one
class Observation:
    """One event in the types of the records; never changed."""

    id: UUID
    queue: str
    task: str
    state: TaskState
    attempt: int
    retries: int
    at: datetime
    ends_attempt: bool = False
    worker: str | None = None
    result: str | None = None
    result_omitted_bytes: int | None = None
    error: str | None = None
    progress: str | None = None
    progress_count: int = 0
    runtime_seconds: float | None = None
    deliveries: int = 1
    args: str | None = None
    kwargs: str | None = None


@dataclass(slots=True)
class Attempt:
    """One attempt as far as it is known; what is only written when it changes is not read."""

    attempt: int
    position: int
    state: str
    retries: int = 0
    due_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str | None = None
    worker_at: datetime | None = None
    runtime_seconds: float | None = None
    deliveries: int = 0
    progress_count: int = 0
    result: str | None = None
    result_omitted_bytes: int | None = None
    error: str | None = None
    progress: str | None = None
    source: Literal["task", "archive", "new"] = "new"
    moved: bool = False  # state, outcome and retries are to be written
    progressed: bool = False  # progress is to be written
    changed: bool = False


@dataclass(slots=True)
class Known:
    """What is on record of a task before the merge."""

    id: UUID
    current: Attempt
    created_at: datetime
    origin: str
    retry: RetryPolicy | None
    cancel_requested: bool
    needs_args: bool
    has_callback: bool = False
    due_at: datetime | None = None  # from when on the attempt on record could start; None while unknown
    archived: dict[int, Attempt] = field(default_factory=dict)


@dataclass(slots=True)
class Merged:
    """A task after the merge. `archive` says that the attempt on record becomes an earlier one."""

    id: UUID
    current: Attempt
    created_at: datetime
    args: str | None
    kwargs: str | None
    earlier: list[Attempt]
    archive: bool
    changed: bool
    finished: bool
    retry_scheduled: bool
    wait_seconds: float | None = None  # from due to started, once for an attempt


def parse_event(event: Mapping[str, Any]) -> Observation | None:
    """The event in our types, or None when it cannot be recorded (no UUID, unknown state, wrong types)."""
    try:
        state = _STATES[event["state"]]
        result_known = "result" in event
        return Observation(
            id=UUID(event["id"]),
            queue=clean_text(str(event["queue"]), MAX_NAME_LENGTH),
            task=clean_text(str(event["task"]), MAX_NAME_LENGTH),
            state=state,
            attempt=min(max(int(event.get("attempt", 1)), 1), MAX_ATTEMPT),
            retries=min(max(int(event.get("retries", 0)), 0), MAX_COUNT),
            at=datetime.fromtimestamp(event["at"], UTC),
            ends_attempt=bool(event.get("ends_attempt")) and not state.is_final,
            worker=clean_text(str(event["worker"]), MAX_NAME_LENGTH) if event.get("worker") else None,
            result=encode_json(event["result"]) if result_known else None,
            result_omitted_bytes=_build_count(event.get("result_omitted_bytes"), 2**63 - 1),
            error=encode_json(event["error"]) if event.get("error") is not None else None,
            progress=encode_json(event["progress"]) if "progress" in event else None,
            progress_count=_build_count(event.get("progress_count"), 2**63 - 1) or 0,
            runtime_seconds=read_runtime(event),
            deliveries=count_deliveries(event),
            args=encode_json(event["args"]) if "args" in event else None,
            kwargs=encode_json(event["kwargs"]) if "kwargs" in event else None,
        )
    except (KeyError, ValueError, TypeError, OverflowError, OSError, AttributeError, RecursionError):
        return None


def read_runtime(event: Mapping[str, Any]) -> float | None:
    """How long the run took that an event ends, in seconds."""
    runtime = event.get("runtime_seconds")
    return runtime if isinstance(runtime, int | float) and math.isfinite(runtime) else None


def count_deliveries(event: Mapping[str, Any]) -> int:
    """How often the broker had delivered the message of the run that an event tells of, as far as the worker knows."""
    return _build_count(event.get("deliveries"), MAX_COUNT) or (2 if event.get("redelivered") else 1)


def _build_count(value: Any, limit: int) -> int | None:
    return min(max(int(value), 0), limit) if isinstance(value, int | float) else None


def build_retry_delay(policy: RetryPolicy | None, task_id: UUID, attempt: int) -> timedelta:
    """How long to wait after the failure of `attempt`. The jitter is drawn from id and attempt."""
    policy = policy or RetryPolicy(max_attempts=attempt + 1)
    seconds = min(policy.backoff_seconds * 2.0 ** min(attempt - 1, 60), policy.max_backoff_seconds)
    if policy.jitter:
        seconds *= zlib.crc32(task_id.bytes + attempt.to_bytes(4, "big")) / 2**32
    return timedelta(seconds=seconds)


def merge(known: Known, observations: Iterable[Observation], now: datetime) -> Merged:
    """Apply the observations of one task."""
    attempts = {**known.archived, known.current.attempt: known.current}
    newest = known.current.attempt
    was_final, was_started = known.current.finished_at is not None, known.current.started_at is not None
    created_at, args, kwargs, retry_scheduled = known.created_at, None, None, False
    for seen in observations:
        view = attempts.get(seen.attempt)
        if view is None:
            view = attempts[seen.attempt] = _build_attempt(seen.attempt)
        newest = max(newest, seen.attempt)
        state = _decide_state(seen, known)
        moved = _observe(view, seen, state)
        if moved and seen.ends_attempt and state is TaskState.RETRYING and seen.attempt == newest:
            newest = seen.attempt + 1
            retry_scheduled = True
            attempts[newest] = _build_retry(known, seen, now)
        if known.origin == "celery":
            created_at = min(created_at, seen.at)
            if known.needs_args and seen.args is not None:
                args, kwargs = seen.args, seen.kwargs
    current = attempts.pop(newest)
    return Merged(
        id=known.id,
        current=current,
        created_at=created_at,
        args=args,
        kwargs=kwargs,
        earlier=[view for view in attempts.values() if view.changed],
        archive=known.current is not current,
        changed=current.changed or created_at != known.created_at or args is not None,
        finished=current.finished_at is not None and not was_final,
        retry_scheduled=retry_scheduled,
        wait_seconds=None if was_started else _compute_wait(known),
    )


def _compute_wait(known: Known) -> float | None:
    started_at, due_at = known.current.started_at, known.due_at
    if started_at is None or due_at is None:
        return None
    return max(0.0, (started_at - due_at).total_seconds())  # two machines, two clocks


def _build_attempt(attempt: int) -> Attempt:
    """An attempt of which nothing was seen: any observation moves it."""
    return Attempt(attempt=attempt, position=attempt * ATTEMPT_SPAN - 1, state=TaskState.PENDING)


def _build_retry(known: Known, seen: Observation, now: datetime) -> Attempt:
    """The platform's next attempt, which the sweeper publishes when it is due. The worker's clock may be ahead."""
    attempt = seen.attempt + 1
    return Attempt(
        attempt=attempt,
        position=position(attempt, 0, TaskState.SCHEDULED),
        state=TaskState.RETRYING,
        due_at=min(seen.at, now) + build_retry_delay(known.retry, known.id, seen.attempt),
        moved=True,
        progressed=True,
        changed=True,
    )


def _decide_state(seen: Observation, known: Known) -> TaskState:
    """The state that an observation means: there is no next attempt after the last one, nor after a cancellation."""
    if not seen.ends_attempt:
        return seen.state
    if known.cancel_requested:
        return TaskState.CANCELLED
    if known.retry is not None and seen.attempt >= known.retry.max_attempts:
        return TaskState.FAILED
    return TaskState.RETRYING


def _observe(view: Attempt, seen: Observation, state: TaskState) -> bool:
    """Bring the view up to one observation; whether its state moved."""
    place = position(seen.attempt, seen.retries, state, ends_attempt=seen.ends_attempt)
    ends = state.is_final or seen.ends_attempt
    moved = place > view.position
    if moved:
        view.position, view.state, view.retries, view.due_at = place, state, seen.retries, None
        view.finished_at = seen.at if ends else None
        view.runtime_seconds = seen.runtime_seconds
        view.result, view.result_omitted_bytes, view.error = seen.result, seen.result_omitted_bytes, seen.error
        view.moved = view.changed = True
    started_at = decide_start(seen.state, seen.at, seen.runtime_seconds, ends=ends)
    if started_at is not None and (view.started_at is None or started_at < view.started_at):
        view.started_at, view.changed = started_at, True
    if seen.worker is not None and (
        view.worker_at is None or (seen.at, seen.worker) > (view.worker_at, view.worker or "")
    ):
        view.worker, view.worker_at, view.changed = seen.worker, seen.at, True
    if (started_at is not None or seen.worker is not None) and seen.deliveries > view.deliveries:
        view.deliveries, view.changed = seen.deliveries, True
    if seen.progress is not None and seen.progress_count > view.progress_count:
        view.progress, view.progress_count = seen.progress, seen.progress_count
        view.progressed = view.changed = True
    return moved


def decide_start(state: TaskState, at: datetime, runtime_seconds: float | None, *, ends: bool) -> datetime | None:
    """When an attempt of which this is heard had started at the latest. Short tasks are only seen at their end."""
    if state is TaskState.RUNNING:
        return at
    if ends and runtime_seconds is not None:
        return at - timedelta(seconds=max(0.0, min(runtime_seconds, 1e9)))
    return None
