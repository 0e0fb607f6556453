"""`/api/v1/queues`."""

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Path, Query
from pydantic import AfterValidator
from starlette.responses import Response

from taskfleet_api.queues.history import MAX_POINTS, MAX_POINTS_OF_MANY, Span, plan_span
from taskfleet_api.queues.schemas import (
    HistoryModel,
    ManyHistoriesModel,
    PurgeAnswer,
    QueueList,
    QueueModel,
    RedriveAnswer,
    ScalingModel,
    TaskNameList,
    WorkerList,
)
from taskfleet_api.records.sampling import STEPS_SECONDS
from taskfleet_api.requests import Json, ServicesOf, problem_responses
from taskfleet_api.tasks.parameters import Moment
from taskfleet_api.tasks.service import Services

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/queues", tags=["queues"])
QueueName = Annotated[str, Path(min_length=1, max_length=255, examples=["thumbnails"])]

HISTORY_AGE_SECONDS = 5  # how long an answer may be kept: half of the shortest interval


def _check_step(value: int | None) -> int | None:
    if value is not None and value not in STEPS_SECONDS:
        raise ValueError(f"must be one of {', '.join(map(str, STEPS_SECONDS))}")
    return value


Since = Annotated[Moment, Query(description="Only from this time on; an hour before `until` if it is not given.")]
Until = Annotated[Moment, Query(description="Only before this time; now if it is not given.")]
Step = Annotated[
    int | None,
    AfterValidator(_check_step),
    Query(
        description="Length of the intervals; the shortest that are kept so long if it is not given.",
        json_schema_extra={"enum": list(STEPS_SECONDS)},
    ),
]
Known = Annotated[str | None, Header(alias="If-None-Match", max_length=200, description="`ETag` of an earlier answer.")]
_CACHED: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing has changed since that answer."}}


@router.get(
    "",
    operation_id="listQueues",
    summary="List the queues",
    response_class=Json,
    responses={200: {"model": QueueList}, **problem_responses()},
)
async def list_queues(services: ServicesOf) -> Json:
    """Every registered queue with its depth, workers and rates."""
    return Json(msgspec.json.encode({"items": await services.queues.describe_all()}))


@router.get(
    "/{name}",
    operation_id="getQueue",
    summary="Read a queue",
    response_class=Json,
    responses={200: {"model": QueueModel}, **problem_responses(404, 422)},
)
async def get_queue(name: QueueName, services: ServicesOf) -> Json:
    """Depth, workers, rates and limits of one queue."""
    return Json(msgspec.json.encode(await services.queues.describe(name)))


@router.get(
    "/{name}/tasks",
    operation_id="listQueueTasks",
    summary="List the task names of a queue",
    response_class=Json,
    responses={200: {"model": TaskNameList}, **problem_responses(404, 422)},
)
async def list_queue_tasks(name: QueueName, services: ServicesOf) -> Json:
    """The tasks that the queue's workers registered, with the schemas of their arguments."""
    catalog = (await services.queues.get(name)).catalog
    items: list[dict[str, Any]] = [
        {"name": task, "parameters": schema if isinstance(schema, dict) else None}
        for task, schema in sorted(catalog.items())
    ]
    return Json(msgspec.json.encode({"items": items}))


@router.get(
    "/{name}/workers",
    operation_id="listQueueWorkers",
    summary="List the workers of a queue",
    response_class=Json,
    responses={200: {"model": WorkerList}, **problem_responses(404, 422)},
)
async def list_queue_workers(name: QueueName, services: ServicesOf) -> Json:
    """The queue's living workers with their slots and the tasks in their hands."""
    return Json(msgspec.json.encode({"items": await services.queues.list_workers(name)}))


@router.get(
    "/{name}/history",
    operation_id="getQueueHistory",
    summary="Read the history of a queue",
    response_class=Json,
    responses={200: {"model": HistoryModel}, **_CACHED, **problem_responses(404, 422)},
)
async def get_queue_history(
    name: QueueName,
    services: ServicesOf,
    since: Since = None,
    until: Until = None,
    step_seconds: Step = None,
    known: Known = None,
) -> Response:
    """Depth, waits, workers and ends in intervals of 10 s (kept an hour), 1 min (6 hours) and 10 min (`history_days`).

    Intervals in which nobody looked are left out. The newest 1,440 at most: `since` of the answer says from when.
    """
    span = _plan_span(services, since, until, step_seconds, MAX_POINTS)
    return _answer_cached(await services.histories.describe(name, span), known)


@router.get(
    ":history",
    operation_id="getHistories",
    summary="Read the history of several queues",
    response_class=Json,
    responses={200: {"model": ManyHistoriesModel}, **_CACHED, **problem_responses(422)},
)
async def get_histories(
    services: ServicesOf,
    queue: Annotated[
        list[str], Query(min_length=1, max_length=100, description="The queues; unknown ones among them are ignored.")
    ],
    since: Since = None,
    until: Until = None,
    step_seconds: Step = None,
    known: Known = None,
) -> Response:
    """What sparklines of up to 100 queues need, in columns that belong to the times in `at`.

    The newest 400 intervals at most: `since` of the answer says from when.
    """
    span = _plan_span(services, since, until, step_seconds, MAX_POINTS_OF_MANY)
    return _answer_cached(await services.histories.describe_many(queue, span), known)


def _plan_span(
    services: Services, since: datetime | None, until: datetime | None, step_seconds: int | None, most_points: int
) -> Span:
    return plan_span(datetime.now(UTC), since, until, step_seconds, services.settings.history_days, most_points)


def _answer_cached(document: dict[str, Any], known: str | None) -> Response:
    body = msgspec.json.encode(document)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"private, max-age={HISTORY_AGE_SECONDS}"}
    if known is not None and tag in known:
        return Response(status_code=304, headers=headers)
    return Json(body, headers=headers)


@router.get(
    "/{name}/scaling",
    operation_id="explainScaling",
    summary="Explain the number of workers",
    response_class=Json,
    responses={200: {"model": ScalingModel}, **problem_responses(404, 422, 503)},
)
async def explain_scaling(name: QueueName, services: ServicesOf) -> Json:
    """The last decision about the queue's workers: its terms, and the way to it in sentences."""
    return Json(msgspec.json.encode(await services.queues.explain(name)))


@router.post(
    "/{name}/dead:redrive",
    operation_id="redriveDead",
    summary="Run dead tasks again",
    response_class=Json,
    responses={200: {"model": RedriveAnswer}, **problem_responses(404, 422)},
)
async def redrive_dead(
    name: QueueName,
    services: ServicesOf,
    limit: Annotated[int, Query(ge=1, le=100_000, description="Most tasks of this call, oldest first.")] = 10_000,
) -> Json:
    """Start a new attempt of the queue's dead tasks."""
    redriven, more = await services.queues.redrive(name, limit)
    return Json(msgspec.json.encode({"redriven": redriven, "more": more}))


@router.post(
    "/{name}/dead:purge",
    operation_id="purgeDead",
    summary="Delete dead tasks",
    response_class=Json,
    responses={200: {"model": PurgeAnswer}, **problem_responses(404, 422)},
)
async def purge_dead(name: QueueName, services: ServicesOf) -> Json:
    """Delete the records of the queue's dead tasks for good."""
    return Json(msgspec.json.encode({"purged": await services.queues.purge(name)}))
