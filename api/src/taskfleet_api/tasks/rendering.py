"""Tasks as JSON text. What is stored as JSON goes out as it is, without being read again. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from taskfleet_api.records.model import AttemptRecord, CallbackRecord, CallbackState, Page, TaskRecord
from taskfleet_api.tasks.model import SubmittedTask

__all__ = ["render_moment", "render_page", "render_submitted", "render_task", "task_document"]

_encode = msgspec.json.Encoder().encode


def render_submitted(submitted: SubmittedTask) -> bytes:
    """The answer to a submission; put together by hand, it is the hottest text of all. Its time is the id's."""
    seconds, milliseconds = divmod(submitted.id.int >> 80, 1000)
    return (
        f'{{"id":"{submitted.id}","state":"{submitted.state}",{_render_names(submitted.queue, submitted.task)},'
        f'"attempt":{submitted.attempt},"created_at":"{_render_second(seconds)}.{milliseconds:03d}Z"}}'
    ).encode()


@lru_cache(maxsize=16)
def _render_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


@lru_cache(maxsize=4096)
def _render_names(queue: str, task: str) -> str:
    return f'"queue":{_encode(queue).decode()},"task":{_encode(task).decode()}'


def render_task(record: TaskRecord) -> bytes:
    """A task with its callback and all its attempts."""
    callback = _callback_document(record.callback) if record.callback else None
    return _encode(task_document(record) | {"callback": callback, "attempts": attempt_documents(record)})


def _callback_document(callback: CallbackRecord) -> dict[str, Any]:
    is_pending = callback.state is CallbackState.PENDING
    return {
        "url": callback.url,
        "state": callback.state.value,
        "attempt": callback.attempt,
        "tries": callback.tries,
        "due_at": render_moment(callback.due_at) if is_pending else None,
        "updated_at": render_moment(callback.updated_at),
        "last_status": callback.last_status,
        "last_error": callback.last_error,
    }


def render_page(page: Page) -> bytes:
    """A page of tasks."""
    return _encode({"items": [task_document(record) for record in page.items], "next_cursor": page.next_cursor})


def task_document(record: TaskRecord) -> dict[str, Any]:
    """The members of a task; JSON members are raw text for msgspec."""
    retry = record.retry
    return {
        "id": str(record.id),
        "queue": record.queue,
        "task": record.task,
        "state": record.state.value,
        "attempt": record.attempt,
        "max_attempts": record.max_attempts,
        "retries": record.retries,
        "args": raw(record.args),
        "kwargs": raw(record.kwargs),
        "metadata": raw(record.metadata),
        "priority": record.priority,
        "eta": render_moment(record.eta),
        "expires_at": render_moment(record.expires_at),
        "due_at": render_moment(record.due_at) if record.state.value in ("scheduled", "retrying") else None,
        "retry": retry
        and {
            "max_attempts": retry.max_attempts,
            "backoff_seconds": retry.backoff_seconds,
            "max_backoff_seconds": retry.max_backoff_seconds,
            "jitter": retry.jitter,
        },
        "timeout_seconds": record.timeout_seconds,
        "created_at": render_moment(record.created_at),
        "published_at": render_moment(record.published_at),
        "started_at": render_moment(record.started_at),
        "finished_at": render_moment(record.finished_at),
        "updated_at": render_moment(record.updated_at),
        "worker": record.worker,
        "result": raw(record.result),
        "result_omitted_bytes": record.result_omitted_bytes,
        "error": raw(record.error),
        "progress": raw(record.progress),
        "runtime_seconds": record.runtime_seconds,
        "traceparent": record.traceparent,
        "origin": record.origin,
        "cancel_requested": record.cancel_requested,
        "deliveries": record.deliveries,
    }


def attempt_documents(record: TaskRecord) -> Sequence[dict[str, Any]]:
    """Every attempt, the current one last."""
    return [*map(_attempt_document, record.earlier_attempts), _attempt_document(record)]


def _attempt_document(attempt: AttemptRecord | TaskRecord) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "state": attempt.state.value,
        "retries": attempt.retries,
        "published_at": render_moment(attempt.published_at),
        "started_at": render_moment(attempt.started_at),
        "finished_at": render_moment(attempt.finished_at),
        "worker": attempt.worker,
        "result": raw(attempt.result),
        "error": raw(attempt.error),
        "runtime_seconds": attempt.runtime_seconds,
        "deliveries": attempt.deliveries,
    }


def raw(text: str | None) -> msgspec.Raw | None:
    """Stored JSON text as it is."""
    return None if text is None else msgspec.Raw(text.encode())


def render_moment(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds."""
    return None if moment is None else moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
