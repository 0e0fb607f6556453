"""Reference 004: submit and read tasks with title, description and metadata; 400, 404 and 500 in one error shape."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from taskfleet_api.records.model import TaskRecord
from taskfleet_api.references.clean import CLEAN_TEXT, CleanObject
from taskfleet_api.references.errors import AsyncTaskRoute, ErrorDocument, task_not_found
from taskfleet_api.references.outcomes import COMPLETED, RowContract, RowTasks
from taskfleet_api.references.tables import async_tasks

__all__ = ["CONTRACT", "router"]

router = APIRouter(tags=["reference 004"], route_class=AsyncTaskRoute)


class AsyncTaskInput(BaseModel):
    """A task as a caller describes it."""

    title: Annotated[str, Field(min_length=1, max_length=255), CLEAN_TEXT]
    description: Annotated[str, Field(min_length=1, max_length=16_000), CLEAN_TEXT]
    metadata: CleanObject | None = None


class AsyncTaskAccepted(BaseModel):
    """The task is stored and queued."""

    task_id: str
    message: str = "Task submitted successfully"


class AsyncTask(BaseModel):
    """A task as it stands; times are UTC in seconds, without a zone."""

    task_id: str
    title: str
    description: str
    status: str
    metadata: dict[str, Any] | None
    created_at: str
    updated_at: str
    completed_at: str | None


def build_outcome(record: TaskRecord, status: str) -> dict[str, Any]:
    """The `completed_at` column: set for COMPLETED, empty otherwise."""
    finished = record.finished_at
    if status != COMPLETED or finished is None:
        return {"completed_at": None}
    return {"completed_at": finished.astimezone(UTC).replace(tzinfo=None)}


CONTRACT = RowContract(
    reference="004",
    table=async_tasks,
    queue="async-tasks",
    task="worker.process_task",
    build_kwargs=lambda row: {name: row[name] for name in ("title", "description", "metadata")},
    build_outcome=build_outcome,
)


@router.post(
    "/api/tasks",
    status_code=202,
    operation_id="reference_004_create",
    summary="Submit a task",
    # "4XX" also keeps the framework from announcing its own 422.
    responses={400: {"model": ErrorDocument}, "4XX": {"model": ErrorDocument}, 500: {"model": ErrorDocument}},
)
async def create_task(request: Request, body: AsyncTaskInput) -> AsyncTaskAccepted:
    """Store the task and queue it."""
    row = await _tasks(request).create({"id": str(uuid4()), **body.model_dump()})
    return AsyncTaskAccepted(task_id=row["id"])


@router.get(
    "/api/tasks/{task_id}",
    operation_id="reference_004_read",
    summary="Read a task's status",
    responses={404: {"model": ErrorDocument}, "4XX": {"model": ErrorDocument}, 500: {"model": ErrorDocument}},
)
async def read_task(request: Request, task_id: Annotated[str, Path()]) -> AsyncTask:
    """The task with its newest status. What is no id of a task is not found."""
    row_id = _parse_id(task_id)
    row = await _tasks(request).read(row_id) if row_id else None
    if row is None:
        raise task_not_found()
    times = {name: _format(row[name]) for name in ("created_at", "updated_at", "completed_at")}
    return AsyncTask.model_validate({**row, **times, "task_id": row["id"]})


def _tasks(request: Request) -> RowTasks:
    tasks: RowTasks = request.app.state.references[CONTRACT.reference]
    return tasks


def _parse_id(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _format(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%S") if moment else None
