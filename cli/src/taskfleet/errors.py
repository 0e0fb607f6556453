"""What the client raises. The tree is core's; a problem document of the API becomes the error that the API raised.

TaskfleetError
+-- InvalidInputError    422, 400, 413, 415: the submission or a parameter is wrong; `errors` names each field
+-- AuthenticationError  401: the API wants a key, or refuses the one that was sent
+-- PermissionDeniedError 403: the key does not allow this
+-- NotFoundError        404
+-- ConflictError        409
+-- OverloadedError      503 with nothing accepted: try again after `retry_after_seconds`
+-- UnavailableError     the API, or what it depends on, does not answer
+-- ApiError             any other answer
+-- TaskFailedError      a waited-for task ended without success; `task` holds it
+-- WaitTimeoutError     a waited-for task is not final yet; it goes on running
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskfleet_core.errors import (
    AuthenticationError,
    ConflictError,
    FieldError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    TaskfleetError,
    UnavailableError,
)

if TYPE_CHECKING:
    from taskfleet.models import Task

__all__ = [
    "ApiError",
    "AuthenticationError",
    "ConflictError",
    "FieldError",
    "InvalidInputError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "TaskFailedError",
    "TaskfleetError",
    "UnavailableError",
    "WaitTimeoutError",
    "build_error",
]

DEFAULT_RETRY_SECONDS = 5
INVALID_STATUSES = frozenset({400, 405, 408, 413, 415, 422})


class ApiError(TaskfleetError):
    """An answer that the client has no better name for, such as 500 or a proxy's page."""

    def __init__(self, detail: str, status: int) -> None:
        super().__init__(detail)
        self.status = status


class TaskFailedError(TaskfleetError):
    """A task ended as failed, cancelled, expired or dead."""

    def __init__(self, task: "Task") -> None:
        cause = f": {task.error.type}: {task.error.message}" if task.error else ""
        super().__init__(f"task {task.id} ended as {task.state}{cause}")
        self.task = task


class WaitTimeoutError(TaskfleetError):
    """The time to wait is over; the task goes on."""

    def __init__(self, task_id: str, timeout_seconds: float) -> None:
        super().__init__(f"task {task_id} is not finished after {timeout_seconds:g} s; it goes on running")
        self.task_id = task_id


def build_error(status: int, document: Any, headers: Mapping[str, str]) -> TaskfleetError:
    """The error for an answer that is no success; `document` is its decoded body, if it is JSON."""
    problem = document if isinstance(document, Mapping) else {}
    detail = str(problem.get("detail") or problem.get("title") or f"the API answered with status {status}")
    if status == 401:
        return AuthenticationError(f"{detail} Set TASKFLEET_API_KEY, or give the key to the client.")
    if status == 403:
        return PermissionDeniedError(detail)
    if status == 404:
        return NotFoundError(detail)
    if status == 409:
        return ConflictError(detail)
    if status in INVALID_STATUSES:
        return InvalidInputError(detail, _build_field_errors(problem.get("errors")))
    if status == 429 or (status == 503 and str(problem.get("type", "")).endswith("/overloaded")):
        return OverloadedError(detail, _parse_seconds(headers.get("retry-after")))
    if status in (502, 503, 504):
        return UnavailableError(detail)
    return ApiError(detail, status)


def _build_field_errors(items: Any) -> tuple[FieldError, ...]:
    if not isinstance(items, list):
        return ()
    return tuple(
        FieldError(str(item.get("pointer", "#")), str(item.get("detail", "")))
        for item in items
        if isinstance(item, Mapping)
    )


def _parse_seconds(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else DEFAULT_RETRY_SECONDS
