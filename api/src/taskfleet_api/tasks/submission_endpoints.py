"""`POST /api/v1/tasks` and `/api/v1/tasks:batch`, with the call that a submission may ask for."""

import hashlib
from collections import Counter as Tally
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from taskfleet_api.authentication import get_principal
from taskfleet_api.bodies import JSON_TYPES, NDJSON_TYPES, parse_idempotency_key, parse_wait
from taskfleet_api.callbacks.policy import MAX_URL_LENGTH
from taskfleet_api.problems import INVALID_INPUT, Problem, ProblemResponse, build_problem
from taskfleet_api.requests import Json, ServicesOf, problem_responses, receive_body
from taskfleet_api.tasks.answering import answer_submission, count_submission, count_submissions
from taskfleet_api.tasks.batches import (
    BatchHeaders,
    build_batch_answer,
    parse_batch,
    prefix_pointers,
    split_array,
    split_lines,
)
from taskfleet_api.tasks.model import HeldBackError, SubmittedTask
from taskfleet_api.tasks.parameters import IdempotencyKey, Prefer
from taskfleet_api.tasks.parsing import parse_precise
from taskfleet_api.tasks.refusals import count_refusal
from taskfleet_api.tasks.schemas import SUBMISSION_EXAMPLE, BatchAnswer, CallbackBody, SubmittedTaskModel, TaskModel
from taskfleet_api.telemetry import parse_traceparent
from taskfleet_core.errors import TaskfleetError

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["tasks"])
BODY_PROBLEMS = problem_responses(400, 404, 408, 409, 413, 415, 422, 429)


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
        count_submissions(queue, replayed=replayed, count=count)
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
