"""Messages that no task of this worker can run: reported before Celery throws them away."""

from __future__ import annotations

import logging
import time
from types import MethodType
from typing import Any

from celery import signals, states
from celery.exceptions import NotRegistered
from kombu.exceptions import ContentDisallowed

from . import _wire, reporting
from .events import Identity, StateEvent, build_error, encode_origin, find_queue
from .settings import WorkerSettings

__all__ = ["install_failure_hooks"]

logger = logging.getLogger("taskfleet.worker")


def install_failure_hooks(consumer: Any, settings: WorkerSettings) -> None:
    """Wrap the consumer's handlers of unknown, invalid and undecodable messages, once."""
    if hasattr(consumer, "_taskfleet_hooked"):
        return
    consumer._taskfleet_hooked = True
    unknown, invalid, undecodable = consumer.on_unknown_task, consumer.on_invalid_task, consumer.on_decode_error

    def on_unknown_task(self: Any, body: Any, message: Any, exc: BaseException) -> Any:
        name = (message.headers or {}).get("task") or str(exc)
        if _report(self, settings, message, NotRegistered(name), may_retry=True):
            return _put_aside(self, message, name, exc)
        return unknown(body, message, exc)

    def on_invalid_task(self: Any, body: Any, message: Any, exc: BaseException) -> Any:
        _report(self, settings, message, exc, may_retry=False)
        return invalid(body, message, exc)

    def on_decode_error(self: Any, message: Any, exc: BaseException) -> Any:
        _report(self, settings, message, exc, may_retry=False)
        return undecodable(message, exc)

    for name, method in (
        ("on_unknown_task", on_unknown_task),
        ("on_invalid_task", on_invalid_task),
        ("on_decode_error", on_decode_error),
    ):
        setattr(consumer, name, MethodType(method, consumer))


def _put_aside(consumer: Any, message: Any, name: str, exc: BaseException) -> None:
    """Acknowledge a message whose task gets another attempt: a rejected one would be recorded as failed."""
    task_id = message.headers["id"]
    logger.error("task %s[%s] is not registered in this worker; the platform tries again", name, task_id)

    def acknowledge() -> None:
        message.ack_log_error(logger, consumer.connection_errors)

    if not reporting.defer_until_recorded(task_id, acknowledge):
        acknowledge()
    signals.task_unknown.send(sender=consumer, message=message, exc=exc, name=name, id=task_id)


def _explain(exc: BaseException, settings: WorkerSettings) -> dict[str, str]:
    """The error for the record, with the fix where it is one of the TaskQueue's settings."""
    error = build_error(exc)
    if isinstance(exc, ContentDisallowed):
        accepted = ", ".join(settings.accept_content)
        error["message"] += f": worker.acceptContent of the TaskQueue is [{accepted}]; add it there, or send JSON"
    return error


def _report(consumer: Any, settings: WorkerSettings, message: Any, exc: BaseException, *, may_retry: bool) -> bool:
    """Report the end of the attempt; whether another one follows."""
    headers = message.headers or {}
    task_id = headers.get("id")
    if not isinstance(task_id, str):
        return False
    attempt, most = headers.get(_wire.HEADER_ATTEMPT), headers.get(_wire.HEADER_MAX_ATTEMPTS)
    identity = Identity(
        id=task_id,
        queue=find_queue(message.delivery_info, settings.queues) or settings.queue,
        task=str(headers.get("task") or ""),
        attempt=attempt if isinstance(attempt, int) else 1,
        max_attempts=most if isinstance(most, int) else 1,
        retries=headers.get("retries") or 0,
        redelivered=bool((message.delivery_info or {}).get("redelivered")),
    )
    if attempt is None:
        identity.origin = encode_origin((), {}, headers.get("root_id"), headers.get("parent_id"))
    backend = consumer.app.backend
    event = StateEvent(_wire.FAILED, time.time(), settings.host, error=_explain(exc, settings))
    state = states.FAILURE
    if may_retry and identity.has_attempts_left:
        # Another worker, or this one after a rollout, may know the task by the next attempt.
        event.state, event.ends_attempt, state = _wire.RETRYING, True, states.RETRY
    meta = {
        "task_id": task_id,
        "status": state,
        "result": backend.encode_result(exc, state),
        "traceback": None,
        "children": [],
        "date_done": consumer.app.now().isoformat() if state == states.FAILURE else None,
    }
    backend.report(identity, event, backend.encode(meta))
    return event.ends_attempt
