"""Building the Celery protocol-2 message of a task. Pure: no clock, no I/O.

Celery's own `as_task_v2` makes the headers, once per shape; what differs from task to task is then filled in, and the
body is put together from raw JSON without parsing it again. A property test compares the outcome with Celery's.
"""

import functools
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from taskfleet_core import wire

__all__ = ["LOWEST_PRIORITY", "Message", "build_message"]

# What a task without a priority gets, on every broker: a task with priority 9 must overtake it.
LOWEST_PRIORITY = 0

# Celery cuts its own representations at 1024 characters too. They are for people (Flower, events), never parsed.
REPR_MAX_CHARACTERS = 1024

_EMBED = b', {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


@dataclass(frozen=True, slots=True)
class Message:
    """One task as a broker carries it. `priority` is the API's: 0-9, 9 first, None like 0."""

    task_id: str
    queue: str
    body: bytes
    headers: dict[str, Any] = field(repr=False)
    priority: int | None = None
    expiration_seconds: float | None = None
    attempt: int = 1
    content_type: str = "application/json"
    content_encoding: str = "utf-8"

    @property
    def correlation_id(self) -> str:
        """Celery's convention: the task id."""
        return self.task_id


@functools.cache
def _celery() -> Celery:
    return Celery("taskfleet", set_as_current=False, fixups=[])


@functools.lru_cache(maxsize=4096)
def _template(task: str, timeout_seconds: float | None) -> dict[str, Any]:
    headers: dict[str, Any] = (
        _celery()
        .amqp.as_task_v2("", task, argsrepr="", kwargsrepr="", time_limit=timeout_seconds, origin="taskfleet-api")
        .headers
    )
    return headers


def build_message(
    *,
    task_id: str,
    queue: str,
    task: str,
    args_json: str = "[]",
    kwargs_json: str = "{}",
    priority: int | None = None,
    expires: str | None = None,
    expiration_seconds: float | None = None,
    timeout_seconds: float | None = None,
    attempt: int = 1,
    max_attempts: int | None = None,
    republished: bool = False,
    traceparent: str | None = None,
) -> Message:
    """The message of one attempt.

    `expires` is the ISO 8601 text for Celery's header, `expiration_seconds` what is left of it, for the broker.
    `republished` says that an earlier copy of the same attempt may exist: the worker then looks before it runs.
    """
    headers = _template(task, timeout_seconds).copy()
    headers["id"] = task_id
    headers["root_id"] = task_id
    headers["argsrepr"] = args_json[:REPR_MAX_CHARACTERS]
    headers["kwargsrepr"] = kwargs_json[:REPR_MAX_CHARACTERS]
    headers[wire.HEADER_ATTEMPT] = attempt
    if expires is not None:
        headers["expires"] = expires
    if max_attempts is not None:
        headers[wire.HEADER_MAX_ATTEMPTS] = max_attempts
    if republished:
        headers[wire.HEADER_REPUBLISHED] = True
    if traceparent is not None:
        headers[wire.HEADER_TRACEPARENT] = traceparent
    body = f"[{args_json}, {kwargs_json}".encode() + _EMBED
    return Message(task_id, queue, body, headers, priority, expiration_seconds, attempt)
