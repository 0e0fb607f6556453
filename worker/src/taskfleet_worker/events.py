"""Builds the JSON of task events. Pure: no Redis, no Celery machinery beyond reading a request's attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import _wire
from .encoding import encode_json, encode_value

__all__ = [
    "DELAY_LEVELS",
    "Identity",
    "StateEvent",
    "build_error",
    "build_identity",
    "build_stored_error",
    "encode_event",
    "encode_progress_prefix",
    "find_queue",
]

MAX_MESSAGE_CHARACTERS = 10_000
MAX_TRACEBACK_CHARACTERS = 50_000
DELAY_LEVELS = 28  # of Celery's delayed delivery


@dataclass
class Identity:
    """Which task, which attempt: what every event of one delivery has in common."""

    id: str
    queue: str
    task: str
    attempt: int = 1
    max_attempts: int = 1
    retries: int = 0
    redelivered: bool = False
    # How often workers began this attempt, this time included; None: nobody asked, it is the first time.
    deliveries: int | None = None
    # Encoded `args`, `kwargs`, `root_id`, `parent_id` members; only for messages of plain Celery producers.
    origin: str = ""

    @property
    def has_attempts_left(self) -> bool:
        """Whether the platform starts another attempt when this one fails."""
        return self.attempt < self.max_attempts


@dataclass
class StateEvent:
    """One change of state before it is encoded; `result` is JSON text."""

    state: str
    at: float
    worker: str
    ends_attempt: bool = False
    result: str | None = None
    error: dict[str, str] | None = None
    runtime_seconds: float | None = None
    retry_at: float | None = None
    progress: str = field(default="")


def build_identity(request: Any, queues: Sequence[str], task: str) -> Identity:
    """Read a Celery request context; the message headers are its attributes. `queues` are those of the worker."""
    attempt = request.get(_wire.HEADER_ATTEMPT)
    delivery = request.delivery_info or {}
    identity = Identity(
        id=request.id,
        queue=find_queue(delivery, queues) or queues[0],
        task=task,
        attempt=_whole(attempt, 1),
        max_attempts=_whole(request.get(_wire.HEADER_MAX_ATTEMPTS), 1),
        retries=request.retries or 0,
        redelivered=bool(delivery.get("redelivered")),
    )
    if attempt is None:
        identity.origin = encode_origin(request.args, request.kwargs, request.root_id, request.parent_id)
    return identity


def find_queue(delivery_info: Mapping[str, Any] | None, names: Iterable[str]) -> str | None:
    """The queue that a message came from; None where its routing key is not the name of one.

    One that Celery delayed has its delay before the name, a digit for each level.
    """
    key = (delivery_info or {}).get("routing_key")
    if not isinstance(key, str):
        return None
    if key in (known := set(names)):
        return key
    parts = key.split(".", DELAY_LEVELS)
    last = parts[-1] if len(parts) == DELAY_LEVELS + 1 else None
    return last if last in known else None


def encode_origin(args: Any, kwargs: Any, root_id: str | None, parent_id: str | None) -> str:
    """The members that let a record be made for a task nobody submitted over HTTP."""
    shape = ',"origin":"celery","args":{},"kwargs":{},"root_id":{},"parent_id":{}'
    return shape.format(
        encode_value(list(args or ())), encode_value(kwargs or {}), encode_json(root_id), encode_json(parent_id)
    )


def build_error(exc: Any, traceback: Any = None) -> dict[str, str]:
    """Type, message and (bounded) traceback of a failure."""
    kind = type(exc)
    module, name = kind.__module__, kind.__qualname__
    if name == "UnpickleableExceptionWrapper":
        # Celery's stand-in for what cannot be sent between processes; its text is the repr of the original.
        module, name = exc.exc_module, exc.exc_cls_name
    try:
        message = str(exc)
    except Exception:  # a foreign __str__ may raise anything
        message = f"<unprintable {kind.__qualname__}>"
    error = {"type": _join_type(module, name), "message": message[:MAX_MESSAGE_CHARACTERS]}
    if traceback:
        error["traceback"] = str(traceback)[-MAX_TRACEBACK_CHARACTERS:]
    return error


def build_stored_error(result: Any) -> dict[str, str]:
    """The failure that a task stored itself by `update_state`: an exception, the form that Celery's backends write
    (`exc_type`, `exc_message`), or anything else, as it is."""
    if isinstance(result, BaseException):
        return build_error(result)
    if not isinstance(result, Mapping) or not isinstance(result.get("exc_type"), str):
        return {"type": "Ignore", "message": encode_value(result)[:MAX_MESSAGE_CHARACTERS]}
    message = result.get("exc_message")
    parts = message if isinstance(message, (list, tuple)) else [message]
    text = "\n".join(str(part) for part in parts)[:MAX_MESSAGE_CHARACTERS]
    return {"type": _join_type(str(result.get("exc_module") or "builtins"), result["exc_type"]), "message": text}


def _join_type(module: str, name: str) -> str:
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def encode_event(identity: Identity, event: StateEvent, position: int, max_result_bytes: int) -> str:
    """JSON of a `state` event as the recorder reads it."""
    head: dict[str, Any] = {
        "schema": _wire.SCHEMA_VERSION,
        "kind": "state",
        "id": identity.id,
        "queue": identity.queue,
        "task": identity.task,
        "state": event.state,
        "attempt": identity.attempt,
        "retries": identity.retries,
        "position": position,
        "at": round(event.at, 6),
        "worker": event.worker,
    }
    if event.runtime_seconds is not None:
        head["runtime_seconds"] = round(event.runtime_seconds, 6)
    if event.retry_at is not None:
        head["retry_at"] = round(event.retry_at, 6)
    if event.ends_attempt:
        head["ends_attempt"] = True
    if identity.redelivered:
        head["redelivered"] = True
        if identity.deliveries is not None:
            head["deliveries"] = identity.deliveries
    if event.result is not None and len(event.result) > max_result_bytes:
        head["result_omitted_bytes"] = len(event.result)
    text = encode_json(head)[:-1]
    if event.error is not None:
        text += ',"error":' + encode_value(event.error)
    if event.result is not None and len(event.result) <= max_result_bytes:
        text += ',"result":' + event.result
    return text + event.progress + identity.origin + "}"


def encode_progress_prefix(identity: Identity, position: int, at: float, worker: str, progress: str) -> str:
    """A `progress` event up to the value of `progress_count`, which the server counts and closes with `}`."""
    head = {
        "schema": _wire.SCHEMA_VERSION,
        "kind": "progress",
        "id": identity.id,
        "queue": identity.queue,
        "task": identity.task,
        "state": _wire.RUNNING,
        "attempt": identity.attempt,
        "retries": identity.retries,
        "position": position,
        "at": round(at, 6),
        "worker": worker,
    }
    return encode_json(head)[:-1] + ',"progress":' + progress + identity.origin + ',"progress_count":'


def _whole(value: Any, default: int) -> int:
    try:
        return max(1, int(value))
    except (TypeError, ValueError):
        return default
