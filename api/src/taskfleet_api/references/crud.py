"""Reference 003: tasks as rows with integer ids; the worker's outcome updates the row."""

import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field, WithJsonSchema
from starlette.convertors import StringConvertor, register_url_convertor

from taskfleet_api.records.model import TaskRecord
from taskfleet_api.references.clean import CLEAN_TEXT
from taskfleet_api.references.errors import PLAIN_RESPONSES, Detail, PlainRoute, task_not_found
from taskfleet_api.references.outcomes import RowContract, RowTasks
from taskfleet_api.references.rows import Row
from taskfleet_api.references.tables import now_utc, processing_tasks
from taskfleet_core.states import TaskState

__all__ = ["CONTRACT", "router"]

MAX_ROW_ID = 2**31 - 1
MAX_RESULT_CHARACTERS = 8_000

router = APIRouter(tags=["reference 003"], route_class=PlainRoute)

RowId = Annotated[int, Path(ge=1, le=MAX_ROW_ID)]
# UTC, as this contract writes it: without the zone that the format `date-time` asks for.
Moment = Annotated[datetime, WithJsonSchema({"type": "string", "examples": ["2026-01-31T12:00:00.123456"]})]


class RowIdConvertor(StringConvertor):
    """Leaves `/tasks/submit` to reference 002, also for methods that it does not have."""

    regex = "(?!submit$)[^/]+"


register_url_convertor("row_id", RowIdConvertor())
ROW_PATH = "/tasks/{task_id:row_id}"


class TaskInput(BaseModel):
    """A task as a caller names it."""

    name: Annotated[str, Field(min_length=1, max_length=255), CLEAN_TEXT]


class TaskRow(BaseModel):
    """A row of the table."""

    id: int
    name: str
    status: str
    result: str | None = None
    created_at: Moment
    updated_at: Moment


class Message(BaseModel):
    """What was done."""

    message: str


def build_outcome(record: TaskRecord, status: str) -> dict[str, Any]:
    """The `result` column: the task's result, or why it has none."""
    if record.state is TaskState.SUCCEEDED and record.result is not None:
        value = json.loads(record.result)
        return {"result": _storable(value if isinstance(value, str) else record.result)}
    if record.state.is_final:
        error = json.loads(record.error) if record.error else {}
        return {"result": _storable(error.get("message") or record.state.value)}
    return {"result": None}


def _storable(text: str) -> str:
    # A result is whatever the worker returned; PostgreSQL text holds no NUL and no lone surrogate.
    # MySQL's TEXT ends at 65,535 bytes.
    return text[:MAX_RESULT_CHARACTERS].replace("\x00", "\\u0000").encode("utf-8", "backslashreplace").decode()


CONTRACT = RowContract(
    reference="003",
    table=processing_tasks,
    queue="task-processing",
    task="worker.process_task",
    build_kwargs=lambda row: {"task_id": row["id"], "name": row["name"]},
    build_outcome=build_outcome,
)


# Frameworks of this kind answer the path without its slash too.
@router.post("/tasks", include_in_schema=False)
@router.post(
    "/tasks/",
    operation_id="reference_003_create",
    summary="Create a task",
    responses=PLAIN_RESPONSES,
)
async def create_task(request: Request, body: TaskInput) -> TaskRow:
    """Create a row and queue its processing."""
    return _build_row(await _tasks(request).create({"name": body.name}))


@router.get("/tasks", include_in_schema=False)
@router.get(
    "/tasks/",
    operation_id="reference_003_list",
    summary="List the tasks",
    responses=PLAIN_RESPONSES,
)
async def list_tasks(
    request: Request,
    skip: Annotated[int, Query(ge=0, le=MAX_ROW_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[TaskRow]:
    """The rows in the order of their ids."""
    return [_build_row(row) for row in await _tasks(request).read_page(skip, limit)]


@router.get(
    ROW_PATH,
    operation_id="reference_003_read",
    summary="Read a task",
    responses={**PLAIN_RESPONSES, 404: {"model": Detail}},
)
async def read_task(request: Request, task_id: RowId) -> TaskRow:
    """One row with the newest status."""
    row = await _tasks(request).read(task_id)
    if row is None:
        raise task_not_found()
    return _build_row(row)


@router.put(
    ROW_PATH,
    operation_id="reference_003_update",
    summary="Rename a task",
    responses={**PLAIN_RESPONSES, 404: {"model": Detail}},
)
async def update_task(request: Request, task_id: RowId, body: TaskInput) -> TaskRow:
    """Change the row's name. The queued work keeps the name that it was created with."""
    tasks = _tasks(request)
    await tasks.rows.update(task_id, {"name": body.name, "updated_at": now_utc()})
    return await read_task(request, task_id)


@router.delete(
    ROW_PATH,
    operation_id="reference_003_delete",
    summary="Delete a task",
    responses={**PLAIN_RESPONSES, 404: {"model": Detail}},
)
async def delete_task(request: Request, task_id: RowId) -> Message:
    """Remove the row; work that has not begun is cancelled."""
    if not await _tasks(request).delete(task_id):
        raise task_not_found()
    return Message(message="Task deleted")


def _tasks(request: Request) -> RowTasks:
    tasks: RowTasks = request.app.state.references[CONTRACT.reference]
    return tasks


def _build_row(row: Row) -> TaskRow:
    # This contract writes its statuses in small letters; the table holds one spelling for both contracts.
    return TaskRow.model_validate({"result": None, **row, "status": row["status"].lower()})
