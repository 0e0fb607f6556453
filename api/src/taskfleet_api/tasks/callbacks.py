"""What receivers of callbacks are told: the body, and the signed call."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from taskfleet_api.callbacks import CallbackClient, CallbackPolicy, Delivery, RefusedReceiverError
from taskfleet_api.callbacks.signing import build_headers
from taskfleet_api.records import CallbackRecord, NewCallback, TaskRecord
from taskfleet_api.tasks.rendering import task_document
from taskfleet_core.errors import FieldError, InvalidInputError

__all__ = ["TaskCaller", "build_message_id", "check_callback", "render_callback"]

POINTER = "#/callback_url"
UNTOLD = ("args", "kwargs", "due_at")  # large, and the receiver's own; or of no use after the end


def check_callback(policy: CallbackPolicy | None, url: str) -> NewCallback:
    """The callback of a submission. Raises InvalidInputError; `policy` None: callbacks are switched off."""
    if policy is None:
        detail = "Callbacks are switched off here: the service has no secret to sign them with."
        raise InvalidInputError(detail, (FieldError(POINTER, detail),))
    try:
        return NewCallback(url, policy.check(url).receiver)
    except RefusedReceiverError as error:
        raise InvalidInputError("The callback URL is refused.", (FieldError(POINTER, str(error)),)) from error


def build_message_id(callback: CallbackRecord) -> str:
    """The same for all calls about one end of a task, by which receivers know repeats."""
    return f"msg_{callback.task_id.hex}_{callback.attempt}"


def render_callback(record: TaskRecord, callback: CallbackRecord) -> bytes:
    """The body: the task as it stood at the end of the attempt that is told."""
    ended = next((one for one in record.earlier_attempts if one.attempt == callback.attempt), None)
    if ended is not None:
        told = {name: getattr(ended, name) for name in ended.__dataclass_fields__ if name != "progress"}
        record = replace(record, **told, result_omitted_bytes=None)
    document = {name: value for name, value in task_document(record).items() if name not in UNTOLD}
    return msgspec.json.encode(
        {
            "type": f"task.{record.state.value}",
            "timestamp": document["finished_at"],
            "delivery": {"id": build_message_id(callback), "attempt": callback.tries},
            "data": document,
        }
    )


class TaskCaller:
    """Calls the receiver of a task's callback once, signed with every key."""

    def __init__(self, client: CallbackClient, keys: Sequence[bytes]) -> None:
        self._client = client
        self._keys = tuple(keys)

    async def __call__(self, record: TaskRecord, callback: CallbackRecord) -> Delivery:
        """Make the call; what is wrong with the receiver is in the answer."""
        body = render_callback(record, callback)
        now = int(datetime.now(UTC).timestamp())
        headers = build_headers(self._keys, build_message_id(callback), now, body)
        named = {"Content-Type": "application/json", "User-Agent": "Taskfleet", **headers}
        return await self._client.post(callback.url, named, body)
