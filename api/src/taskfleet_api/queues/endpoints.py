"""`/api/v1/queues`."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query

from taskfleet_api.queues.schemas import (
    PurgeAnswer,
    QueueList,
    QueueModel,
    RedriveAnswer,
    ScalingModel,
    TaskNameList,
    WorkerList,
)
from taskfleet_api.requests import Json, ServicesOf, problem_responses

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/queues", tags=["queues"])
QueueName = Annotated[str, Path(min_length=1, max_length=255, examples=["thumbnails"])]


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
