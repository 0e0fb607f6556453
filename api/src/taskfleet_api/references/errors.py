"""How errors look at the references' paths: plain FastAPI's `{"detail": ...}`, or 004's standardised document.

A route class maps them, so that the problem documents of the rest of the API stay as they are.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from taskfleet_api.bodies import read_body
from taskfleet_api.problems import BodyTimeoutError, PayloadTooLargeError
from taskfleet_core.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    TaskfleetError,
    UnavailableError,
)

__all__ = [
    "PLAIN_RESPONSES",
    "AsyncTaskRoute",
    "Detail",
    "ErrorDocument",
    "PlainRoute",
    "ValidationDetail",
    "build_detail_response",
    "build_error_response",
    "task_not_found",
]

logger = structlog.get_logger()
RETRY_AFTER_SECONDS = 5

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Mapper = Callable[[Exception], Response | None]


class Detail(BaseModel):
    """An error as a plain FastAPI project answers it."""

    detail: str


class FieldDetail(BaseModel):
    """What is wrong at one place of the input."""

    loc: list[str | int]
    msg: str
    type: str


class ValidationDetail(BaseModel):
    """Wrong input as a plain FastAPI project answers it."""

    detail: list[FieldDetail] | str


# What every route of references 000 to 003 may answer beside its own.
PLAIN_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": Detail},
    408: {"model": Detail},
    413: {"model": Detail},
    422: {"model": ValidationDetail},
    503: {"model": Detail},
}


class ErrorField(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class ErrorBody(BaseModel):
    """The content of 004's standardised error."""

    code: str
    message: str
    details: list[ErrorField] = Field(default_factory=list)


class ErrorDocument(BaseModel):
    """004's standardised JSON error."""

    error: ErrorBody


# What can be said of a body before it is looked at; everything else that is wrong has the status of its contract.
BODY_STATUSES: dict[type[TaskfleetError], int] = {BodyTimeoutError: 408, PayloadTooLargeError: 413}


def build_detail_response(error: Exception) -> Response | None:
    """The answer of references 000 to 003; None for an error that the app's own handlers should see."""
    if isinstance(error, RequestValidationError):
        details = [{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in error.errors()]
        return _json_response(422, {"detail": details})
    if isinstance(error, StarletteHTTPException):
        return _json_response(error.status_code, {"detail": error.detail}, error.headers)
    if not isinstance(error, TaskfleetError):
        return None
    if isinstance(error, OverloadedError | UnavailableError | NotFoundError):
        # What is not found here is the contract's queue: nobody applied its TaskQueue yet.
        return _json_response(503, {"detail": str(error)}, _retry_after(error))
    status = 422 if isinstance(error, InvalidInputError) else 409 if isinstance(error, ConflictError) else 500
    return _json_response(BODY_STATUSES.get(type(error), status), {"detail": str(error)})


def build_error_response(error: Exception) -> Response:
    """The answer of reference 004: 400, 404 or 500 in one shape, whatever happened."""
    if isinstance(error, RequestValidationError):
        details = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()]
        return _error_document(400, "INVALID_REQUEST", "Invalid request", details)
    if isinstance(error, InvalidInputError):
        details = [{"field": e.pointer, "message": e.detail} for e in error.errors]
        return _error_document(BODY_STATUSES.get(type(error), 400), "INVALID_REQUEST", str(error), details)
    if isinstance(error, StarletteHTTPException):
        code = {404: "TASK_NOT_FOUND", 400: "INVALID_REQUEST"}.get(error.status_code, "ERROR")
        return _error_document(error.status_code, code, str(error.detail), headers=error.headers)
    if isinstance(error, TaskfleetError):
        logger.warning("reference_request_failed", reference="004", error=str(error))
        return _error_document(500, "INTERNAL_ERROR", "Internal server error", headers=_retry_after(error))
    logger.exception("reference_request_failed", reference="004")
    return _error_document(500, "INTERNAL_ERROR", "Internal server error")


def _retry_after(error: TaskfleetError) -> dict[str, str]:
    if isinstance(error, OverloadedError):
        return {"Retry-After": str(error.retry_after_seconds)}
    return {"Retry-After": str(RETRY_AFTER_SECONDS)} if isinstance(error, UnavailableError) else {}


def _error_document(
    status: int, code: str, message: str, details: list[dict[str, str]] | None = None, headers: Any = None
) -> Response:
    return _json_response(status, {"error": {"code": code, "message": message, "details": details or []}}, headers)


def _json_response(status: int, content: object, headers: Any = None) -> Response:
    # ASCII, because a message may quote a lone surrogate that UTF-8 cannot hold.
    return Response(json.dumps(content), status, dict(headers or {}), media_type="application/json")


def _mapped(handler: Handler, map_error: Mapper) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            return await handler(await _receive_bounded(request))
        except Exception as error:
            response = map_error(error)
            if response is None:
                raise
            return response

    return handle


async def _receive_bounded(request: Request) -> Request:
    """The request with its body read within bounds of size and time, which the framework does not know."""
    settings = request.app.state.settings
    declared = request.headers.get("content-length")
    body = await read_body(request.receive, settings.max_item_bytes, settings.body_timeout_seconds, declared)

    async def replay() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, replay)


class PlainRoute(APIRoute):
    """A route whose errors look like those of a plain FastAPI project."""

    def get_route_handler(self) -> Handler:
        """The route's handler with the mapper around it."""
        return _mapped(super().get_route_handler(), build_detail_response)


class AsyncTaskRoute(APIRoute):
    """A route whose errors are 004's standardised documents."""

    def get_route_handler(self) -> Handler:
        """The route's handler with the mapper around it."""
        return _mapped(super().get_route_handler(), build_error_response)


def task_not_found() -> HTTPException:
    """A row that does not exist; both CRUD contracts answer 404."""
    return HTTPException(404, "Task not found")
