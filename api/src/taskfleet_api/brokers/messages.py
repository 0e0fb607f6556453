"""Building the Celery protocol-2 message of a task. Pure: no clock, no I/O.

Celery's own `as_task_v2` makes the headers, once per shape; what differs from task to task is then filled in, and the
body is put together from raw JSON without parsing it again. A property test compares the outcome with Celery's.
"""

import functools
from collections.abc import Mapping
from typing import Any

import msgspec
from celery import Celery

from taskfleet_core import wire

__all__ = ["LOWEST_PRIORITY", "HeaderTemplate", "Message", "build_message"]

# What a task without a priority gets, on every broker: a task with priority 9 must overtake it.
LOWEST_PRIORITY = 0

# Celery cuts its own representations at 1024 characters too. They are for people (Flower, events), never parsed.
REPR_MAX_CHARACTERS = 1024

# Headers that differ from task to task; all others are the template's.
_OWN = frozenset({"id", "root_id", "argsrepr", "kwargsrepr"})
_EMBED = b', {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


class HeaderTemplate:
    """Headers that many messages share. Compared by identity, so that adapters can keep an encoded form of it."""

    __slots__ = ("headers",)

    def __init__(self, headers: Mapping[str, Any]) -> None:
        self.headers = headers


NO_TEMPLATE = HeaderTemplate({})


class Message(msgspec.Struct, frozen=True):
    """One task as a broker carries it. `priority` is the API's: 0-9, 9 first, None like 0."""

    task_id: str
    queue: str
    body: bytes
    own_headers: dict[str, Any]
    priority: int | None = None
    expiration_seconds: float | None = None
    attempt: int = 1
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    template: HeaderTemplate = NO_TEMPLATE

    @property
    def headers(self) -> dict[str, Any]:
        """All headers, as a worker sees them."""
        return {**self.template.headers, **self.own_headers}

    @property
    def correlation_id(self) -> str:
        """Celery's convention: the task id."""
        return self.task_id


@functools.cache
def _celery() -> Celery:
    return Celery("taskfleet", set_as_current=False, fixups=[])


@functools.lru_cache(maxsize=4096)
def _template(task: str, timeout_seconds: float | None, expires: bool) -> HeaderTemplate:
    made = _celery().amqp.as_task_v2(
        "", task, argsrepr="", kwargsrepr="", time_limit=timeout_seconds, origin="taskfleet-api"
    )
    own = {*_OWN, "expires"} if expires else _OWN
    return HeaderTemplate({key: value for key, value in made.headers.items() if key not in own})


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
    own: dict[str, Any] = {
        "id": task_id,
        "root_id": task_id,
        "argsrepr": args_json[:REPR_MAX_CHARACTERS],
        "kwargsrepr": kwargs_json[:REPR_MAX_CHARACTERS],
        wire.HEADER_ATTEMPT: attempt,
    }
    if expires is not None:
        own["expires"] = expires
    if max_attempts is not None:
        own[wire.HEADER_MAX_ATTEMPTS] = max_attempts
    if republished:
        own[wire.HEADER_REPUBLISHED] = True
    if traceparent is not None:
        own[wire.HEADER_TRACEPARENT] = traceparent
    return Message(
        task_id,
        queue,
        f"[{args_json}, {kwargs_json}".encode() + _EMBED,
        own,
        priority,
        expiration_seconds,
        attempt,
        template=_template(task, timeout_seconds, expires is not None),
    )
