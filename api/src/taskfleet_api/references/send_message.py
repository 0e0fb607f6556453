"""Reference 000: send a message over an unreliable line; the worker's log shows the retries."""

import json
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from taskfleet_api.references.clean import CLEAN_TEXT
from taskfleet_api.references.errors import PLAIN_RESPONSES, PlainRoute
from taskfleet_api.references.submitting import submit

__all__ = ["router"]

QUEUE, TASK = "send-message", "worker.send"

router = APIRouter(tags=["reference 000"], route_class=PlainRoute)


class MessageAccepted(BaseModel):
    """The message is in the queue."""

    message: str
    task_id: str


@router.post(
    "/api/v1/tasks/send_message",
    operation_id="reference_000_send_message",
    summary="Send a message",
    responses=PLAIN_RESPONSES,
)
async def send_message(request: Request, msg: Annotated[str, Query(max_length=65_536), CLEAN_TEXT]) -> MessageAccepted:
    """Queue the message `msg`; sending it fails seven times in ten and is tried again after 1, 2 and 4 seconds."""
    task_id = await submit(request, "000", QUEUE, TASK, json.dumps({"msg": msg}, ensure_ascii=False))
    return MessageAccepted(message="Message queued", task_id=str(task_id))
