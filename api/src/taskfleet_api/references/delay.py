"""Reference 001: work of a given length, answered synchronously for up to TASK_TIMEOUT seconds, queueing included."""

import json
import time
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from taskfleet_api.references.errors import PLAIN_RESPONSES, PlainRoute
from taskfleet_api.references.settings import fetch_reference_settings
from taskfleet_api.references.submitting import get_services, submit
from taskfleet_core.states import TaskState

__all__ = ["router"]

QUEUE, TASK = "delay", "tasks.delayed_task"
MAX_DELAY_SECONDS = 3600

PENDING_TEXT = "Пока не можем обработать ваш запрос, попробуйте позже"
FAILED_TEXT = "Не удалось выполнить запрос"

router = APIRouter(tags=["reference 001"], route_class=PlainRoute)


class DelayRequest(BaseModel):
    """How long the work takes."""

    delay: Annotated[
        float, Field(strict=True, ge=0, le=MAX_DELAY_SECONDS, allow_inf_nan=False, description="Seconds of work.")
    ]


class DelayCompleted(BaseModel):
    """The work ended in time; `time` counts from the request, seconds in the queue included."""

    status: str = "completed"
    result: str
    time: float


class DelayUnfinished(BaseModel):
    """The work did not end in time (`pending`; it goes on) or ended badly (`failed`)."""

    status: str
    message: str
    time: float


@router.post(
    "/delay",
    operation_id="reference_001_delay",
    summary="Work for a while and wait for it",
    responses=PLAIN_RESPONSES,
)
async def delay(request: Request, body: DelayRequest) -> DelayCompleted | DelayUnfinished:
    """Queue the work and wait for its end, at most TASK_TIMEOUT seconds."""
    started = time.monotonic()
    task_id = await submit(request, "001", QUEUE, TASK, json.dumps({"delay": body.delay}))
    left = fetch_reference_settings().task_timeout_seconds - (time.monotonic() - started)
    record = await get_services(request).submissions.wait(task_id, max(left, 0))
    taken = time.monotonic() - started
    if record.state is TaskState.SUCCEEDED:
        return DelayCompleted(result=str(json.loads(record.result or '""')), time=taken)
    if record.state.is_final:
        return DelayUnfinished(status="failed", message=FAILED_TEXT, time=taken)
    return DelayUnfinished(status="pending", message=PENDING_TEXT, time=taken)
