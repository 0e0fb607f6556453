"""`/api/v1/tasks`: what became of tasks, and taking them back or running them again."""

from typing import Annotated

from fastapi import APIRouter, Query

from taskfleet_api.records import TaskFilter
from taskfleet_api.requests import Json, ServicesOf, problem_responses
from taskfleet_api.tasks.parameters import Label, Moment, TaskId
from taskfleet_api.tasks.rendering import render_page, render_task
from taskfleet_api.tasks.schemas import NAME_MAX, TaskModel, TaskPage
from taskfleet_core.errors import FieldError, InvalidInputError
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
