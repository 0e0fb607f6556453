"""`/api/v1/tasks/{id}/events` and `/api/v1/tasks:events`: what happens to tasks, as it happens."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse

from taskfleet_api.requests import ServicesOf, problem_responses
from taskfleet_api.tasks.filters import Wanted
from taskfleet_api.tasks.parameters import TaskId
from taskfleet_api.tasks.streaming import parse_event_id, stream_changes, stream_events, stream_while_allowed
from taskfleet_api.tasks.watching import stream_listing

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["tasks"])

MEDIA_TYPE = "text/event-stream"
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def build_event_schema(events: list[str], identity: str, data: str) -> dict[str, Any]:
    """JSON Schema of one event of a stream, with what its `id` is for and what its `data` holds."""
    return {
        "type": "object",
        "description": "One event of the stream.",
        "required": ["event", "id", "data"],
        "properties": {
            "event": {"type": "string", "enum": events},
            "id": {"type": "string", "description": identity},
            "data": {"type": "string", "description": data},
        },
    }


LISTING_SCHEMA = build_event_schema(
    ["page", "tasks"],
    "Pass it as Last-Event-ID: the page is left out if it is the same.",
    "JSON: `items`, and of a page its `next_cursor`.",
)
EVENT_SCHEMA = build_event_schema(
    ["state", "progress"],
    "Pass it as Last-Event-ID to go on behind it.",
    "JSON: kind, id, queue, task, state, attempt, retries, at and more.",
)


def describe_stream(description: str, event_schema: dict[str, Any]) -> dict[str, Any]:
    """The answer in OpenAPI's words."""
    return {"description": description, "content": {MEDIA_TYPE: {"schema": event_schema}}}


def answer_stream(text: AsyncGenerator[bytes]) -> StreamingResponse:
    """Server-sent events that neither browser nor proxy holds back; they end with the right to be told them."""
    return StreamingResponse(stream_while_allowed(text), media_type=MEDIA_TYPE, headers=STREAM_HEADERS)


@router.get(
    "/tasks/{task_id:uuid}/events",
    operation_id="streamTaskEvents",
    summary="Follow a task",
    response_class=StreamingResponse,
    responses={
        200: describe_stream("Events `state` and `progress`, beginning with the present state.", EVENT_SCHEMA),
        **problem_responses(404, 422),
    },
)
async def stream_task_events(
    task_id: TaskId,
    services: ServicesOf,
    follow: Annotated[bool, Query(description="Go on after a final state, for later attempts.")] = False,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", description="Where a cut stream ended.")] = None,
) -> StreamingResponse:
    """Server-sent events until the task has ended."""
    await services.tasks.get(task_id)  # a problem can only be told before the stream begins
    services.streams.check_room()
    since = parse_event_id(last_event_id)
    return answer_stream(stream_events(services.tasks, services.streams, task_id, since, follow=follow))


@router.get(
    "/tasks:events",
    operation_id="streamEventsOfTasks",
    summary="Follow several tasks",
    response_class=StreamingResponse,
    responses={
        200: describe_stream(
            "Events `state` and `progress` of all of them, beginning with their present states.", EVENT_SCHEMA
        ),
        **problem_responses(404, 422),
    },
)
async def stream_events_of_tasks(
    services: ServicesOf,
    id: Annotated[
        list[UUID], Query(min_length=1, max_length=100, description="The tasks; unknown ones among them are ignored.")
    ],
) -> StreamingResponse:
    """Server-sent events of up to 100 tasks in one stream, also of attempts that begin later."""
    ids = list(dict.fromkeys(id))
    await services.tasks.check_any(ids)  # a problem can only be told before the stream begins
    services.streams.check_room()
    return answer_stream(stream_changes(services.tasks, services.streams, ids))


@router.get(
    "/tasks:stream",
    operation_id="streamTasks",
    summary="Follow a list of tasks",
    response_class=StreamingResponse,
    responses={
        200: describe_stream(
            "`page`: the newest 100; `tasks`: those of them that came or changed since.", LISTING_SCHEMA
        ),
        **problem_responses(422),
    },
)
async def stream_tasks(
    services: ServicesOf,
    wanted: Wanted,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", description="Where a cut stream ended.")] = None,
) -> StreamingResponse:
    """Server-sent events of a listing with its filters, for ten minutes at most; a reader that is too slow is cut.

    Open it again then: it begins with the page as it is.
    """
    services.listings.check_room()  # a problem can only be told before the stream begins
    services.streams.check_room()
    return answer_stream(stream_listing(services.listings, services.streams, wanted, last_event_id))
