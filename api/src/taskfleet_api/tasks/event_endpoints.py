"""`/api/v1/tasks/{id}/events` and `/api/v1/tasks:events`: what happens to tasks, as it happens."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse

from taskfleet_api.requests import ServicesOf, problem_responses
from taskfleet_api.tasks.filters import Wanted
from taskfleet_api.tasks.parameters import TaskId
from taskfleet_api.tasks.streaming import parse_event_id, stream_changes, stream_events
from taskfleet_api.tasks.watching import stream_listing

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["tasks"])

STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
LISTING_SCHEMA = {
    "type": "object",
    "description": "One event of the stream.",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["page", "tasks"]},
        "id": {"type": "string", "description": "Pass it as Last-Event-ID: the page is left out if it is the same."},
        "data": {"type": "string", "description": "JSON: `items`, and of a page its `next_cursor`."},
    },
}
EVENT_SCHEMA = {
    "type": "object",
    "description": "One event of the stream.",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["state", "progress"]},
        "id": {"type": "string", "description": "Pass it as Last-Event-ID to go on behind it."},
        "data": {"type": "string", "description": "JSON: kind, id, queue, task, state, attempt, retries, at and more."},
    },
}


@router.get(
    "/tasks/{task_id:uuid}/events",
    operation_id="streamTaskEvents",
    summary="Follow a task",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events `state` and `progress`, beginning with the present state.",
            "content": {"text/event-stream": {"schema": EVENT_SCHEMA}},
        },
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
    text = stream_events(services.tasks, services.streams, task_id, since, follow=follow)
    return StreamingResponse(text, media_type="text/event-stream", headers=STREAM_HEADERS)


@router.get(
    "/tasks:events",
    operation_id="streamEventsOfTasks",
    summary="Follow several tasks",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events `state` and `progress` of all of them, beginning with their present states.",
            "content": {"text/event-stream": {"schema": EVENT_SCHEMA}},
        },
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
    text = stream_changes(services.tasks, services.streams, ids)
    return StreamingResponse(text, media_type="text/event-stream", headers=STREAM_HEADERS)


@router.get(
    "/tasks:stream",
    operation_id="streamTasks",
    summary="Follow a list of tasks",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`page`: the newest 100; `tasks`: those of them that came or changed since.",
            "content": {"text/event-stream": {"schema": LISTING_SCHEMA}},
        },
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
    text = stream_listing(services.listings, services.streams, wanted, last_event_id)
    return StreamingResponse(text, media_type="text/event-stream", headers=STREAM_HEADERS)
