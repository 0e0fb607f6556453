"""The exit codes of the command line: a public contract for scripts."""

from enum import IntEnum

from taskfleet.errors import (
    AuthenticationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    TaskFailedError,
    TaskfleetError,
    UnavailableError,
    WaitTimeoutError,
)

__all__ = ["DESCRIPTIONS", "ExitCode", "get_exit_code"]


class ExitCode(IntEnum):
    """What a command's exit code says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    TIMEOUT = 5
    CONFLICT = 6
    UNAUTHENTICATED = 7
    INTERNAL = 70
    INTERRUPTED = 130


DESCRIPTIONS = {
    ExitCode.OK: "done; a waited-for task succeeded",
    ExitCode.FAILED: "a waited-for task failed, was cancelled, expired or is dead; doctor found a problem",
    ExitCode.USAGE: "wrong options, or an input that the API refuses",
    ExitCode.NOT_FOUND: "no such task, queue or schedule",
    ExitCode.UNAVAILABLE: "the API, or something it needs, does not answer or is overloaded",
    ExitCode.TIMEOUT: "the time to wait is over; the task goes on",
    ExitCode.CONFLICT: "the task's state forbids it, or the idempotency key is taken",
    ExitCode.UNAUTHENTICATED: "the API wants a key, or refuses what was sent, or it does not allow this",
    ExitCode.INTERNAL: "an answer or a failure that should not be",
    ExitCode.INTERRUPTED: "Ctrl-C",
}

# The first class that fits decides.
_CODES: tuple[tuple[type[TaskfleetError], ExitCode], ...] = (
    (TaskFailedError, ExitCode.FAILED),
    (WaitTimeoutError, ExitCode.TIMEOUT),
    (InvalidInputError, ExitCode.USAGE),
    (AuthenticationError, ExitCode.UNAUTHENTICATED),
    (PermissionDeniedError, ExitCode.UNAUTHENTICATED),
    (NotFoundError, ExitCode.NOT_FOUND),
    (ConflictError, ExitCode.CONFLICT),
    (OverloadedError, ExitCode.UNAVAILABLE),
    (UnavailableError, ExitCode.UNAVAILABLE),
    (TaskfleetError, ExitCode.INTERNAL),
)


def get_exit_code(error: TaskfleetError) -> ExitCode:
    """The exit code that an error ends a command with."""
    return next(code for kind, code in _CODES if isinstance(error, kind))
