"""Counts submissions that were not accepted, by reason. Not by queue: a refused one may name any."""

from taskfleet_api.telemetry import counter
from taskfleet_core.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    TaskfleetError,
    UnavailableError,
)

__all__ = ["SUBMISSION_ROUTES", "count_refusal"]

SUBMISSION_ROUTES = frozenset({"/api/v1/tasks", "/api/v1/tasks:batch"})
_REASONS: dict[type[TaskfleetError], str] = {
    InvalidInputError: "invalid",
    NotFoundError: "not_found",
    ConflictError: "conflict",
    OverloadedError: "overloaded",
    UnavailableError: "unavailable",
}


def count_refusal(error: TaskfleetError) -> None:
    """Count one; errors that are no refusal (what failed inside) are counted with the requests, by status."""
    reason = next((_REASONS[base] for base in type(error).__mro__ if base in _REASONS), None)
    if reason is not None:
        counter("taskfleet_api_refused_total").labels(reason).inc()
