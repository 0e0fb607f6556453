"""`/api/v1/tasks`."""

import hashlib
from collections import Counter as Tally
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Header, Path, Query
from prometheus_client import Counter
from pydantic import AfterValidator, BeforeValidator, StringConstraints
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from taskfleet_api.authentication import get_principal
from taskfleet_api.bodies import JSON_TYPES, KEY_PATTERN, NDJSON_TYPES, parse_idempotency_key, parse_wait
from taskfleet_api.callbacks.policy import MAX_URL_LENGTH
from taskfleet_api.problems import INVALID_INPUT, Problem, ProblemResponse, build_problem
from taskfleet_api.records import TaskFilter
from taskfleet_api.requests import Json, ServicesOf, problem_responses, receive_body
from taskfleet_api.tasks.batches import (
    BatchHeaders,
    build_batch_answer,
    parse_batch,
    prefix_pointers,
    split_array,
    split_lines,
)
from taskfleet_api.tasks.model import HeldBackError, SubmittedTask
from taskfleet_api.tasks.parsing import parse_precise
from taskfleet_api.tasks.refusals import count_refusal
from taskfleet_api.tasks.rendering import render_page, render_submitted, render_task
from taskfleet_api.tasks.schemas import (
    NAME_MAX,
    SUBMISSION_EXAMPLE,
    BatchAnswer,
    CallbackBody,
    SubmittedTaskModel,
    TaskModel,
    TaskPage,
    require_moment,
)
from taskfleet_api.tasks.service import Services
from taskfleet_api.tasks.streaming import parse_event_id, stream_changes, stream_events
from taskfleet_api.telemetry import counter, parse_traceparent
from taskfleet_core.errors import FieldError, InvalidInputError, OverloadedError, TaskfleetError
from taskfleet_core.states import TaskState

__all__ = ["answer_submission", "router"]

router = APIRouter(prefix="/api/v1", tags=["tasks"])
BODY_PROBLEMS = problem_responses(400, 404, 408, 409, 413, 415, 422, 429)
LABEL = r"^[^=\x00-\x1f]{1,255}=[^\x00-\x1f]{0,255}$"

TaskId = Annotated[UUID, Path(description="Id of the task.", examples=["01920000-0000-7000-8000-000000000000"])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=KEY_PATTERN,
        description="Repeats of a request with the same key and body get the first answer for 24 hours.",
        examples=["order-4711"],
    ),
]
Prefer = Annotated[
    str | None,
    Header(description="`wait=N`: answer with the finished task if it ends within N seconds.", examples=["wait=1"]),
]

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


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_LOCATION = {"Location": {"description": "Path of the task.", "schema": {"type": "string"}}}
_REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true` when this answers a repeated request.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
_APPLIED = {"Preference-Applied": {"description": "The wait that was granted.", "schema": {"type": "string"}}}


_callbacks = APIRouter()


@_callbacks.post(
    "{$request.body#/callback_url}",
    operation_id="taskEnded",
    summary="A task has ended",
    response_class=Response,
    responses={
        200: {"description": "Heard; any 2xx will do."},
        410: {"description": "Wants no more calls about this task."},
    },
)
async def task_ended(
    body: CallbackBody,
    webhook_id: Annotated[str, Header(description="The same for all calls about one end of the task.")],
    webhook_timestamp: Annotated[int, Header(description="When the call was signed, in seconds since 1970.")],
    webhook_signature: Annotated[
        str, Header(description="`v1,` and the Base64 of HMAC-SHA256 over `id.timestamp.body`, one for each secret.")
    ],
) -> None:
    """What a receiver of `callback_url` is sent. Any other answer, or none in time, is followed by another call."""


@router.post(
    "/tasks",
    operation_id="submitTask",
    summary="Submit a task",
    status_code=202,
    response_class=Json,
    responses={
        200: {"model": TaskModel, "description": "Finished within the wait.", "headers": _LOCATION | _APPLIED},
        202: {
            "model": SubmittedTaskModel,
            "description": "Accepted: the record is committed.",
            "headers": _LOCATION | _REPLAYED | _APPLIED,
        },
        **BODY_PROBLEMS,
    },
    callbacks=_callbacks.routes,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _schema("TaskSubmission"),
                    "examples": {"task": {"value": SUBMISSION_EXAMPLE}},
                }
            },
        }
    },
)
async def submit_task(
    request: Request, services: ServicesOf, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Accept a task; it will run at least once or end in a visible final state."""
    body, _ = await receive_body(request, services.settings.max_item_bytes)
    submission = parse_precise(body, services.settings.max_json_depth)
    key = parse_idempotency_key(idempotency_key)
    submission = msgspec.structs.replace(
        submission,
        principal=get_principal(request),
        idempotency_key=key,
        body_hash=hashlib.sha256(body).digest() if key else None,
        traceparent=parse_traceparent(request.headers.get("traceparent")),
    )
    submitted = await services.submissions.submit(submission)
    count_submission(submitted)
    status, text, headers = await answer_submission(services, submitted, parse_wait(prefer))
    return Json(text, status, headers)


async def answer_submission(
    services: Services, submitted: SubmittedTask, wait_seconds: float | None
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers; waits if asked to. Whatever goes wrong while waiting, the task is accepted."""
    headers = {"Location": f"{services.settings.root_path}/api/v1/tasks/{submitted.id}"}
    if submitted.replayed:
        headers["Idempotency-Replayed"] = "true"
    if not wait_seconds:
        return 202, render_submitted(submitted), headers
    granted = min(wait_seconds, services.settings.max_wait_seconds)
    try:
        record = await services.submissions.wait(submitted.id, granted)
    except OverloadedError:
        return 202, render_submitted(submitted), headers
    except TaskfleetError:
        record = None
    headers["Preference-Applied"] = f"wait={granted:g}"
    if record is not None and record.state.is_final:
        return 200, render_task(record), headers
    return 202, render_submitted(submitted), headers


def count_submission(submitted: SubmittedTask) -> None:
    """Count an accepted or repeated submission."""
    _get_counter(submitted.queue, "replayed" if submitted.replayed else "accepted").inc()


@lru_cache(maxsize=4096)
def _get_counter(queue: str, outcome: str) -> Counter:
    """The child of one queue: looking it up by labels takes longer than counting."""
    return counter("taskfleet_api_submissions_total").labels(queue, outcome)


@router.post(
    "/tasks:batch",
    operation_id="submitBatch",
    summary="Submit many tasks",
    status_code=202,
    response_class=Json,
    responses={
        200: {"model": BatchAnswer, "description": "Some items were accepted, others refused."},
        202: {"model": BatchAnswer, "description": "Every item was accepted.", "headers": _REPLAYED},
        **BODY_PROBLEMS,
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "array", "items": _schema("BatchItem"), "minItems": 1},
                    "examples": {"tasks": {"value": [SUBMISSION_EXAMPLE]}},
                },
                "application/x-ndjson": {
                    "schema": {"type": "string", "description": "One task as a JSON object in each line."}
                },
            },
        }
    },
)
async def submit_batch(
    request: Request,
    services: ServicesOf,
    idempotency_key: IdempotencyKey = None,
    atomic: Annotated[bool, Query(description="Accept all items or none.")] = False,
    callback_url: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=MAX_URL_LENGTH,
            description="`callback_url` of the items that name none.",
            json_schema_extra={"format": "uri"},
        ),
    ] = None,
) -> Response:
    """Accept up to 10,000 tasks in one transaction; the answer says for each item what became of it."""
    settings = services.settings
    body, media_type = await receive_body(request, settings.max_batch_bytes, JSON_TYPES | NDJSON_TYPES)
    items = split_lines(body) if media_type in NDJSON_TYPES else split_array(body)
    headers = BatchHeaders(
        principal=get_principal(request),
        traceparent=parse_traceparent(request.headers.get("traceparent")),
        idempotency_key=parse_idempotency_key(idempotency_key),
        callback_url=callback_url,
    )
    parsed = await parse_batch(items, headers, body, settings)
    settled = await services.submissions.submit_many(parsed, atomic=atomic, one_key=headers.idempotency_key is not None)
    for (queue, replayed), count in Tally(
        (outcome.queue, outcome.replayed) for outcome in settled if isinstance(outcome, SubmittedTask)
    ).items():
        _get_counter(queue, "replayed" if replayed else "accepted").inc(count)
    for outcome in settled:
        if isinstance(outcome, TaskfleetError) and not isinstance(outcome, HeldBackError):
            count_refusal(outcome)
    return _answer_batch(settled, atomic)


def _answer_batch(settled: list[SubmittedTask | TaskfleetError], atomic: bool) -> Response:
    answer = build_batch_answer(settled)
    if answer["refused"] == 0:
        replayed = all(isinstance(outcome, SubmittedTask) and outcome.replayed for outcome in settled)
        headers = {"Idempotency-Replayed": "true"} if replayed else None
        return Json(msgspec.json.encode(answer), 202, headers)
    if answer["accepted"]:
        return Json(msgspec.json.encode(answer), 200)
    # Refused for one kind of reason, the answer has its status. Good items of an atomic batch give no reason.
    reasons = [item for item in settled if isinstance(item, TaskfleetError) and not isinstance(item, HeldBackError)]
    kinds = {build_problem(item).kind for item in reasons}
    kind = kinds.pop() if len(kinds) == 1 else INVALID_INPUT
    detail = "No item was accepted: at least one is refused." if atomic else "No item was accepted."
    problem = Problem(kind=kind, detail=detail, errors=prefix_pointers(settled), extras={"items": answer["items"]})
    return ProblemResponse(problem, "/api/v1/tasks:batch")


def _to_utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is None:
        return moment and moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from error


Label = Annotated[str, StringConstraints(pattern=LABEL)]
Moment = Annotated[datetime | None, BeforeValidator(require_moment), AfterValidator(_to_utc)]


@router.get(
    "/tasks",
    operation_id="listTasks",
    summary="List tasks",
    response_class=Json,
    responses={200: {"model": TaskPage}, **problem_responses(404, 422)},
)
async def list_tasks(
    services: ServicesOf,
    queue: Annotated[str | None, Query(min_length=1, max_length=NAME_MAX, description="Only of this queue.")] = None,
    state: Annotated[list[TaskState], Query(description="Only in one of these states.")] = [],  # noqa: B006
    task: Annotated[str | None, Query(min_length=1, max_length=NAME_MAX, description="Only with this name.")] = None,
    metadata: Annotated[
        list[Label], Query(max_length=10, description="Only with these top-level metadata: `key=value`, all of them.")
    ] = [],  # noqa: B006
    created_after: Annotated[Moment, Query(description="Only created at or after this time.")] = None,
    created_before: Annotated[Moment, Query(description="Only created before this time.")] = None,
    cursor: Annotated[str | None, Query(min_length=1, max_length=500, description="`next_cursor` of a page.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Most items of the page.")] = 50,
) -> Json:
    """Tasks, newest first; tasks that arrive meanwhile never shift a page."""
    _refuse_unstorable(queue=queue, task=task)
    wanted = TaskFilter(
        queue=queue,
        states=frozenset(state),
        task=task,
        labels=tuple((key, value) for key, _, value in (text.partition("=") for text in metadata)),
        created_after=created_after,
        created_before=created_before,
    )
    page = await services.tasks.list(wanted, cursor, min(limit, services.settings.list_page_limit))
    return Json(render_page(page))


def _refuse_unstorable(**names: str | None) -> None:
    """Nothing with such a name can exist, and PostgreSQL refuses to be asked for NUL characters."""
    for name, value in names.items():
        if value is not None and "\0" in value:
            raise InvalidInputError("The input is not valid.", (FieldError(f"#/query/{name}", "NUL is not allowed."),))


@router.get(
    "/tasks/{task_id:uuid}",
    operation_id="getTask",
    summary="Read a task",
    response_class=Json,
    responses={200: {"model": TaskModel}, **problem_responses(404, 422)},
)
async def get_task(task_id: TaskId, services: ServicesOf) -> Json:
    """The task as it is now, with all its attempts."""
    return Json(render_task(await services.tasks.get(task_id)))


@router.delete(
    "/tasks/{task_id:uuid}",
    operation_id="cancelTask",
    summary="Cancel a task",
    response_class=Json,
    responses={
        200: {"model": TaskModel, "description": "Cancelled."},
        202: {"model": TaskModel, "description": "A worker was told; follow the task to see it end."},
        **problem_responses(404, 409, 422),
    },
)
async def cancel_task(
    task_id: TaskId,
    services: ServicesOf,
    terminate: Annotated[bool, Query(description="Also stop it when it is running.")] = False,
) -> Json:
    """Take the task back; one that runs is only stopped with `terminate`."""
    record = await services.tasks.cancel(task_id, terminate=terminate)
    return Json(render_task(record), 200 if record.state is TaskState.CANCELLED else 202)


@router.post(
    "/tasks/{task_id:uuid}:retry",
    operation_id="retryTask",
    summary="Run a task again",
    status_code=202,
    response_class=Json,
    responses={202: {"model": TaskModel}, **problem_responses(404, 409, 422)},
)
async def retry_task(task_id: TaskId, services: ServicesOf) -> Json:
    """Start a new attempt of a task that failed, died, expired or was cancelled."""
    return Json(render_task(await services.tasks.retry(task_id)), 202)


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
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(text, media_type="text/event-stream", headers=headers)


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
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(text, media_type="text/event-stream", headers=headers)
