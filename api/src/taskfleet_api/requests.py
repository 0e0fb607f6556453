"""What every endpoint needs of a request: the services, the body within its bounds, and documented answers."""

from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse

from taskfleet_api.bodies import JSON_TYPES, check_content, read_body
from taskfleet_api.problems import PROBLEM_MEDIA_TYPE
from taskfleet_api.tasks.service import Services

__all__ = ["PROBLEMS", "Json", "ProblemModel", "ServicesOf", "get_services", "problem_responses", "receive_body"]


class FieldErrorModel(BaseModel):
    """What is wrong at one place of the input."""

    pointer: str = Field(
        description="JSON pointer into the body, or `#/query/...`, `#/path/...`, `#/header/...`.",
        examples=["#/retry/jitter"],
    )
    detail: str = Field(description="What is wrong and how to put it right.")


class ProblemModel(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Stable address that names the kind of problem.")
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[FieldErrorModel] = Field(default=[], description="Each wrong place of the input.")


_DESCRIPTIONS = {
    400: "The body cannot be read.",
    401: "The request carries no valid key.",
    403: "The key lacks the scope that this needs.",
    404: "There is no such resource; for an unknown queue the document names those that exist.",
    405: "The resource does not support this method.",
    408: "The body did not arrive in time.",
    409: "The state of the resource forbids this.",
    413: "The body, or one item, is too large.",
    415: "The content type is not supported.",
    422: "The input is not valid; `errors` points at each wrong place.",
    429: "The caller or the queue is above its rate; try again after `Retry-After` seconds.",
    500: "Something failed inside the service.",
    503: "A limit is reached or a dependency does not answer; try again after `Retry-After` seconds.",
}
PROBLEMS = (500, 503)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented problems of an operation, with those that every operation can meet."""
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemModel"}}},
        }
        for status in sorted({*statuses, *PROBLEMS})
    }


class Json(JSONResponse):
    """JSON text that is ready. A JSONResponse by name only: FastAPI documents others as plain text."""

    def render(self, content: Any) -> bytes:
        """The text as it is."""
        assert isinstance(content, bytes)
        return content


def get_services(request: Request) -> Services:
    """The services of the running app."""
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(get_services)]


async def receive_body(request: Request, limit_bytes: int, accepted: frozenset[str] = JSON_TYPES) -> tuple[bytes, str]:
    """The body and its media type. Raises UnsupportedMediaTypeError, PayloadTooLargeError and BodyTimeoutError."""
    headers = request.headers
    media_type = check_content(headers.get("content-type"), headers.get("content-encoding"), accepted)
    settings = get_services(request).settings
    body = await read_body(request.receive, limit_bytes, settings.body_timeout_seconds, headers.get("content-length"))
    return body, media_type
