"""Reference 002: submit a payload to the heavy task; Flower watches the workers."""

import json
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from taskfleet_api.references.clean import CLEAN_TEXT
from taskfleet_api.references.errors import PLAIN_RESPONSES, PlainRoute
from taskfleet_api.references.submitting import submit

__all__ = ["router"]

QUEUE, TASK = "submit", "worker.tasks.heavy_task"

router = APIRouter(tags=["reference 002"], route_class=PlainRoute)


class Payload(BaseModel):
    """What the heavy task works on."""

    data: Annotated[str, Field(max_length=250_000), CLEAN_TEXT]


class Submitted(BaseModel):
    """The task is accepted."""

    task_id: str
    status: str = "submitted"


@router.post(
    "/tasks/submit",
    operation_id="reference_002_submit",
    summary="Submit a task",
    responses=PLAIN_RESPONSES,
)
async def submit_payload(request: Request, body: Payload) -> Submitted:
    """Queue the payload for the heavy task."""
    task_id = await submit(request, "002", QUEUE, TASK, json.dumps({"data": body.data}, ensure_ascii=False))
    return Submitted(task_id=str(task_id))
