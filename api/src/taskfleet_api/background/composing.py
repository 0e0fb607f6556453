"""From records to broker messages, and the events that the API itself announces. Pure."""

from datetime import UTC, datetime

from taskfleet_api.brokers import Message, build_message
from taskfleet_api.records.model import NewTask, TaskRecord
from taskfleet_core.events import TaskErrorInfo, TaskEvent
from taskfleet_core.states import TaskState, position
from taskfleet_core.wire import SCHEMA_VERSION

__all__ = ["build_event", "build_message_of", "is_publishable"]


def is_publishable(record: TaskRecord) -> bool:
    """Whether the record holds what a message needs; it does not for a Celery producer's unknown arguments."""
    return record.args is not None and record.kwargs is not None


def build_message_of(row: NewTask | TaskRecord, now: datetime, *, republished: bool = False) -> Message:
    """The message of the current attempt. `republished`: an earlier copy of this attempt may exist."""
    if isinstance(row, NewTask):
        attempt, args, kwargs = 1, row.args_json, row.kwargs_json
    else:
        attempt, args, kwargs = row.attempt, row.args or "[]", row.kwargs or "{}"
    expires = row.expires_at
    return build_message(
        task_id=str(row.id),
        queue=row.queue,
        task=row.task,
        args_json=args,
        kwargs_json=kwargs,
        priority=row.priority,
        expires=expires.astimezone(UTC).isoformat() if expires else None,
        expiration_seconds=max(0.0, (expires - now).total_seconds()) if expires else None,
        timeout_seconds=row.timeout_seconds,
        attempt=attempt,
        max_attempts=row.retry.max_attempts if row.retry else None,
        republished=republished,
        traceparent=row.traceparent,
    )


def build_event(record: TaskRecord, state: TaskState, at: datetime, error: TaskErrorInfo | None = None) -> TaskEvent:
    """What the API announces about a task by itself; not for the event stream."""
    event = TaskEvent(
        schema=SCHEMA_VERSION,
        kind="state",
        id=str(record.id),
        queue=record.queue,
        task=record.task,
        state=state.value,
        attempt=record.attempt,
        retries=record.retries,
        # A new attempt begins as `retrying` before its run: its own position says so, the state's rank does not.
        position=record.position if state is record.state else position(record.attempt, record.retries, state),
        at=at.timestamp(),
    )
    if error is not None:
        event["error"] = error
    return event
