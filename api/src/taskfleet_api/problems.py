"""RFC 9457 problem documents: one builder, one table from domain errors to statuses."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from taskfleet_core.errors import (
    AuthenticationError,
    BrokerUnavailableError,
    ConflictError,
    FieldError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RecordsUnavailableError,
    StoreUnavailableError,
    TaskfleetError,
    UnavailableError,
)

__all__ = [
    "ERROR_TABLE",
    "PROBLEM_MEDIA_TYPE",
    "PROBLEM_TYPE_BASE",
    "BodyTimeoutError",
    "MalformedBodyError",
    "PayloadTooLargeError",
    "Problem",
    "ProblemResponse",
    "UnsupportedMediaTypeError",
    "build_problem",
    "build_status_problem",
    "printable",
]

PROBLEM_TYPE_BASE = "https://taskfleet.dev/problems/"
PROBLEM_MEDIA_TYPE = "application/problem+json"
UNAVAILABLE_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """The stable part of a problem: status, slug of its type and title."""

    status: int
    slug: str
    title: str


INVALID_INPUT = ProblemKind(422, "invalid-input", "The input is not valid")
MALFORMED_BODY = ProblemKind(400, "malformed-body", "The body cannot be read")
UNAUTHENTICATED = ProblemKind(401, "unauthenticated", "The request carries no valid key")
FORBIDDEN = ProblemKind(403, "forbidden", "The key does not allow this")
NOT_FOUND = ProblemKind(404, "not-found", "There is no such resource")
METHOD_NOT_ALLOWED = ProblemKind(405, "method-not-allowed", "The resource does not support this method")
CONFLICT = ProblemKind(409, "conflict", "The state of the resource forbids this")
TOO_LARGE = ProblemKind(413, "too-large", "The body is too large")
UNSUPPORTED_TYPE = ProblemKind(415, "unsupported-media-type", "The content type is not supported")
RATE_LIMITED = ProblemKind(429, "rate-limited", "Too many submissions in a short time")
QUOTA_EXCEEDED = ProblemKind(429, "quota-exceeded", "Too many unfinished tasks")
OVERLOADED = ProblemKind(503, "overloaded", "A limit of the service is reached")
UNAVAILABLE = ProblemKind(503, "unavailable", "A dependency does not answer")
TIMEOUT = ProblemKind(408, "timeout", "The request took too long to arrive")
INTERNAL = ProblemKind(500, "internal-error", "Something failed inside the service")


class MalformedBodyError(InvalidInputError):
    """The body is not what its content type says."""


class PayloadTooLargeError(InvalidInputError):
    """The body is larger than its limit."""


class UnsupportedMediaTypeError(InvalidInputError):
    """The body's content type or encoding is none that the resource reads."""


class BodyTimeoutError(InvalidInputError):
    """The body did not arrive in time."""


class QuotaExceededError(OverloadedError):
    """The caller, or the queue, has as many unfinished tasks as it may have; nothing was accepted."""


class RateLimitedError(OverloadedError):
    """The caller, or the queue, is above its rate; nothing was accepted."""


# The most specific class of an error's bases decides.
ERROR_TABLE: dict[type[TaskfleetError], ProblemKind] = {
    InvalidInputError: INVALID_INPUT,
    AuthenticationError: UNAUTHENTICATED,
    PermissionDeniedError: FORBIDDEN,
    NotFoundError: NOT_FOUND,
    ConflictError: CONFLICT,
    OverloadedError: OVERLOADED,
    RateLimitedError: RATE_LIMITED,
    QuotaExceededError: QUOTA_EXCEEDED,
    UnavailableError: UNAVAILABLE,
    BrokerUnavailableError: ProblemKind(503, "broker-unavailable", "The broker does not answer"),
    StoreUnavailableError: ProblemKind(503, "store-unavailable", "Redis or Valkey does not answer"),
    RecordsUnavailableError: ProblemKind(503, "records-unavailable", "The database does not answer"),
    MalformedBodyError: MALFORMED_BODY,
    PayloadTooLargeError: TOO_LARGE,
    UnsupportedMediaTypeError: UNSUPPORTED_TYPE,
    BodyTimeoutError: TIMEOUT,
    TaskfleetError: INTERNAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem document and the headers that go with it."""

    kind: ProblemKind
    detail: str
    errors: Sequence[FieldError] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def build_document(self, instance: str | None = None) -> dict[str, Any]:
        """The members of the document; `instance` is the path of the request."""
        document: dict[str, Any] = {
            "type": PROBLEM_TYPE_BASE + self.kind.slug,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": printable(self.detail),
        }
        if instance is not None:
            document["instance"] = printable(instance)
        if self.errors:
            document["errors"] = [{"pointer": printable(e.pointer), "detail": printable(e.detail)} for e in self.errors]
        return document | dict(self.extras)


class ProblemResponse(Response):
    """A problem as a response of its own media type."""

    media_type = PROBLEM_MEDIA_TYPE

    def __init__(self, problem: Problem, instance: str | None = None) -> None:
        super().__init__(
            msgspec.json.encode(problem.build_document(instance)),
            status_code=problem.kind.status,
            headers=dict(problem.headers),
        )


def build_problem(error: TaskfleetError) -> Problem:
    """The problem that a domain error is for a caller. Never holds more than the error's own text."""
    kind = next(ERROR_TABLE[base] for base in type(error).__mro__ if base in ERROR_TABLE)
    headers: dict[str, str] = {}
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    elif isinstance(error, UnavailableError):
        headers["Retry-After"] = str(UNAVAILABLE_RETRY_SECONDS)
    detail = kind.title if kind is INTERNAL else str(error) or kind.title
    errors = error.errors if isinstance(error, InvalidInputError) else ()
    extras: Mapping[str, Any] = getattr(error, "extras", {})
    return Problem(kind=kind, detail=detail, errors=errors, extras=extras, headers=headers)


def build_status_problem(status: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> Problem:
    """The problem for a bare status, such as the framework's own 404 and 405."""
    by_status = {k.status: k for k in (MALFORMED_BODY, NOT_FOUND, METHOD_NOT_ALLOWED, TOO_LARGE, UNSUPPORTED_TYPE)}
    kind = by_status.get(status)
    if kind is None:
        title = HTTPStatus(status).phrase
        kind = ProblemKind(status, re.sub(r"[^a-z]+", "-", title.lower().replace("'", "")), title)
    return Problem(kind=kind, detail=detail or kind.title, headers=headers or {})


def printable(text: str) -> str:
    """The text with lone surrogates escaped, so that it can always be encoded."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
