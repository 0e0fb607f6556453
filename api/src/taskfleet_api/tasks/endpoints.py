"""`/api/v1/tasks`: what became of tasks, and taking them back or running them again."""

from typing import Annotated

from fastapi import APIRouter, Query

from taskfleet_api.requests import Json, ServicesOf, problem_responses
from taskfleet_api.tasks.filters import Wanted
from taskfleet_api.tasks.parameters import TaskId
from taskfleet_api.tasks.rendering import render_page, render_task
from taskfleet_api.tasks.schemas import TaskModel, TaskPage
from taskfleet_core.states import TaskState

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["tasks"])


@router.get(
    "/tasks",
    operation_id="listTasks",
    summary="List tasks",
    response_class=Json,
    responses={200: {"model": TaskPage}, **problem_responses(404, 422)},
)
async def list_tasks(
    services: ServicesOf,
    wanted: Wanted,
    cursor: Annotated[str | None, Query(min_length=1, max_length=500, description="`next_cursor` of a page.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Most items of the page.")] = 50,
) -> Json:
    """Tasks, newest first; tasks that arrive meanwhile never shift a page."""
    page = await services.tasks.list(wanted, cursor, min(limit, services.settings.list_page_limit))
    return Json(render_page(page))


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
