"""Command line, Python client and local mode."""

from taskfleet.async_client import AsyncClient
from taskfleet.client import Client
from taskfleet.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    FieldError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    TaskFailedError,
    TaskfleetError,
    UnavailableError,
    WaitTimeoutError,
)
from taskfleet.models import (
    ApiKey,
    Event,
    Queue,
    Retry,
    Schedule,
    Submission,
    Task,
    TaskAttempt,
    TaskError,
    TaskSignature,
)
from taskfleet_core.states import TaskState

__all__ = [
    "ApiError",
    "ApiKey",
    "AsyncClient",
    "AuthenticationError",
    "Client",
    "ConflictError",
    "Event",
    "FieldError",
    "InvalidInputError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "Queue",
    "Retry",
    "Schedule",
    "Submission",
    "Task",
    "TaskAttempt",
    "TaskError",
    "TaskFailedError",
    "TaskSignature",
    "TaskState",
    "TaskfleetError",
    "UnavailableError",
    "WaitTimeoutError",
]
