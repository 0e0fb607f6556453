"""The error tree. Domain errors know nothing of HTTP, AMQP or Kubernetes; each edge maps them in one table.

TaskfleetError
+-- InvalidInputError          the caller's input is wrong (field pointer + fix)
+-- AuthenticationError        the caller did not say who it is, or not rightly
+-- PermissionDeniedError      the caller is known and may not do this
+-- NotFoundError              a named thing does not exist
+-- ConflictError              the thing exists, but its state forbids the action
+-- OverloadedError            a bound is reached; try again after `retry_after_seconds`
+-- UnavailableError           a dependency does not answer (retryable)
    +-- BrokerUnavailableError
    +-- StoreUnavailableError  Redis/Valkey
    +-- RecordsUnavailableError  the SQL database
"""

from dataclasses import dataclass

__all__ = [
    "AuthenticationError",
    "BrokerUnavailableError",
    "ConflictError",
    "FieldError",
    "InvalidInputError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "RecordsUnavailableError",
    "StoreUnavailableError",
    "TaskfleetError",
    "UnavailableError",
]


class TaskfleetError(Exception):
    """Root of all errors that Taskfleet raises on purpose."""


@dataclass(frozen=True)
class FieldError:
    """What is wrong at one place of the input: a JSON pointer as URI fragment (`#/retry/jitter`) and the fix."""

    pointer: str
    detail: str


class InvalidInputError(TaskfleetError):
    """The caller's input is wrong; `errors` names each field and its fix."""

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.errors = errors


class AuthenticationError(TaskfleetError):
    """The caller sent no key, or a wrong one."""


class PermissionDeniedError(TaskfleetError):
    """The caller's key is valid and does not allow this."""


class NotFoundError(TaskfleetError):
    """A task, queue or schedule that does not exist."""


class ConflictError(TaskfleetError):
    """The state of the thing forbids the action."""


class OverloadedError(TaskfleetError):
    """A bound is reached; nothing was accepted."""

    def __init__(self, detail: str, retry_after_seconds: int = 5) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(TaskfleetError):
    """A dependency does not answer. Retryable."""


class BrokerUnavailableError(UnavailableError):
    """RabbitMQ or the Redis broker does not answer."""


class StoreUnavailableError(UnavailableError):
    """Redis/Valkey does not answer."""


class RecordsUnavailableError(UnavailableError):
    """The SQL database does not answer."""
