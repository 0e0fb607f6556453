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
# Percent-encoded, so many characters still fit into the longest URL that the server reads (64 KiB).
MAX_CHARACTERS = 4096

router = APIRouter(tags=["reference 000"], route_class=PlainRoute)


class MessageAccepted(BaseModel):
    """The message is in the queue."""

    message: str
    task_id: str


@router.post(
    "/api/v1/tasks/send_message",
    operation_id="reference_000_send_message",
    summary="Send a message",
    responses={**PLAIN_RESPONSES, 414: {"description": "The URL is too long for the server to read."}},
)
async def send_message(
    request: Request, msg: Annotated[str, Query(max_length=MAX_CHARACTERS), CLEAN_TEXT]
) -> MessageAccepted:
    """Queue the message `msg`; sending it fails seven times in ten and is tried again after 1, 2 and 4 seconds."""
    task_id = await submit(request, "000", QUEUE, TASK, json.dumps({"msg": msg}, ensure_ascii=False))
    return MessageAccepted(message="Message queued", task_id=str(task_id))
