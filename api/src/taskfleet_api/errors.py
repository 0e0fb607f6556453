"""Every error that leaves the app as a problem document, the framework's own included."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from taskfleet_api.problems import INVALID_INPUT, Problem, ProblemResponse, build_problem, build_status_problem
from taskfleet_api.tasks.parsing import describe_finding, escape_pointer
from taskfleet_api.tasks.refusals import SUBMISSION_ROUTES, count_refusal
from taskfleet_core.errors import FieldError, InvalidInputError, TaskfleetError

__all__ = ["add_error_handlers"]

log = structlog.get_logger()


def add_error_handlers(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(TaskfleetError, _handle_domain_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)


async def _handle_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TaskfleetError)
    _count_refusal(request, error)
    problem = build_problem(error)
    if problem.kind.status >= 500:
        log.warning("request_refused", path=request.url.path, status=problem.kind.status, error=str(error))
    return ProblemResponse(problem, request.url.path)


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = tuple(
        FieldError(_build_pointer(found["loc"]), describe_finding(found["type"], found["msg"]))
        for found in error.errors()
    )
    _count_refusal(request, InvalidInputError("The input is not valid.", errors))
    problem = Problem(kind=INVALID_INPUT, detail="The input is not valid.", errors=errors)
    return ProblemResponse(problem, request.url.path)


def _count_refusal(request: Request, error: TaskfleetError) -> None:
    route = getattr(request.scope.get("route"), "path", None)
    if request.method == "POST" and route in SUBMISSION_ROUTES:
        count_refusal(error)


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    detail = error.detail if isinstance(error.detail, str) else None
    if error.status_code == 404:
        detail = "There is nothing at this path; /docs lists what there is."
        if "/tasks/" in request.url.path:
            detail += " Ids of tasks are UUIDs."
    if error.status_code == 405:
        allowed = find_allowed_methods(request)
        headers["Allow"] = ", ".join(allowed)
        detail = f"Use {' or '.join(allowed)} here."
    return ProblemResponse(build_status_problem(error.status_code, detail, headers), request.url.path)


def _build_pointer(location: Sequence[Any]) -> str:
    """`#/query/limit` for parameters, `#/a/b` for members of a body."""
    parts = location[1:] if location and location[0] == "body" else location
    return "#" + "".join(f"/{escape_pointer(str(part))}" for part in parts)


def find_allowed_methods(request: Request) -> list[str]:
    """Every method that some route has at the request's path; the framework names only those of one route."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    routes = [route for route in request.app.routes if isinstance(route, APIRoute)]
    found = {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}
    return sorted(found) or ["GET"]
