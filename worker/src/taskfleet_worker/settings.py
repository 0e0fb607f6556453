"""What the environment tells an injected worker; read once, at import of the loader."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from . import _wire
from .tls import add_verification

__all__ = ["VARIABLES", "WorkerSettings", "load_settings"]

ENV_MAX_EVENTS = "TASKFLEET_MAX_EVENTS"
ENV_MAX_RESULT_BYTES = "TASKFLEET_MAX_RESULT_BYTES"
ENV_STARTED_AFTER = "TASKFLEET_STARTED_AFTER_SECONDS"

DEFAULT_MAX_TASK_SECONDS = 3600.0


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of one worker process and of its children; VARIABLES says what each means."""

    queue: str
    redis_url: str  # with how to verify its certificate
    broker_ca_file: str | None = None
    weights: dict[str, int] = field(default_factory=dict)
    confined: str | None = None
    host: str = field(default_factory=platform.node)
    pod_uid: str | None = None
    max_task_seconds: float | None = None
    grace_seconds: float = DEFAULT_MAX_TASK_SECONDS
    accept_content: tuple[str, ...] = ("json",)
    delivery_limit: int | None = None
    health_file: str | None = None
    log_format: str = "json"
    max_events: int = 1_000_000
    max_result_bytes: int = 1024 * 1024
    started_after_seconds: float = 0.05

    @property
    def queues(self) -> tuple[str, ...]:
        """All queues that are served, `queue` first."""
        return (self.queue, *(name for name in self.weights if name != self.queue))

    @property
    def longest_task_seconds(self) -> float:
        """The time limit of tasks, or one hour where none is set."""
        return self.max_task_seconds or DEFAULT_MAX_TASK_SECONDS

    @property
    def live_ttl_seconds(self) -> int:
        """How long a task's live state stays after its last change: longer than any delivery can be outstanding."""
        return int(2 * self.longest_task_seconds) + 3600


def load_settings(environ: Mapping[str, str] = os.environ) -> WorkerSettings:
    """Read the TASKFLEET_* variables; raises ValueError that names the variable which is missing or wrong."""
    values: dict[str, object] = {}
    for name, variable in VARIABLES.items():
        text = environ.get(name, "")
        if not text:
            continue
        try:
            values[variable.attribute] = variable.parse(text)
        except ValueError:
            raise ValueError(f"{name}: not a valid value: {text!r}") from None
    for name in (_wire.ENV_QUEUE, _wire.ENV_REDIS_URL):
        if not environ.get(name):
            raise ValueError(f"{name} is not set: start workers with the environment that Taskfleet builds")
    values["redis_url"] = add_verification(str(values["redis_url"]), environ.get(_wire.ENV_REDIS_CA_FILE) or None)
    if "max_task_seconds" in values:
        values.setdefault("grace_seconds", values["max_task_seconds"])
    return WorkerSettings(**values)  # type: ignore[arg-type]


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_weights(text: str) -> dict[str, int]:
    pairs = (part.partition("=") for part in _split(text))
    return {name: int(weight or 1) for name, _, weight in pairs}


class Variable(NamedTuple):
    """Where a variable goes, how its text is read, and what it means."""

    attribute: str
    parse: Callable[[str], object]
    meaning: str


VARIABLES: dict[str, Variable] = {
    _wire.ENV_QUEUE: Variable("queue", str, "Queue of the worker; the first one where it serves several. Required."),
    _wire.ENV_QUEUES: Variable("weights", _parse_weights, "All queues with their weights, such as `urgent=3,bulk=1`."),
    _wire.ENV_REDIS_URL: Variable("redis_url", str, "The store: states, events, heartbeats. Required."),
    _wire.ENV_BROKER_CA_FILE: Variable("broker_ca_file", str, "Authorities (PEM) that sign the broker's certificate."),
    _wire.ENV_CONFINED: Variable(
        "confined",
        str,
        "The broker user is the queue's own and declares nothing: `delays`, or `waits` where it may not delay at the "
        "broker.",
    ),
    _wire.ENV_HOST: Variable("host", str, "Name of the worker in heartbeats and records; the machine's if not set."),
    _wire.ENV_POD_UID: Variable("pod_uid", str, "The pod; the operator fences by it."),
    _wire.ENV_MAX_TASK_SECONDS: Variable(
        "max_task_seconds", float, "Hard time limit of every task, where the pool has one; not set: what the app says."
    ),
    _wire.ENV_GRACE_SECONDS: Variable(
        "grace_seconds",
        float,
        "How long a leaving worker may take before running tasks go back to the broker; as long as a task may take if "
        "not set.",
    ),
    _wire.ENV_ACCEPT_CONTENT: Variable("accept_content", _split, "Kinds of content that are taken."),
    _wire.ENV_DELIVERY_LIMIT: Variable(
        "delivery_limit",
        int,
        "Redeliveries before a task is dead, counted by the worker only where the broker does not (Redis); not set: no "
        "limit.",
    ),
    _wire.ENV_HEALTH_FILE: Variable("health_file", str, "File that is touched each second while the worker is well."),
    _wire.ENV_LOG_FORMAT: Variable("log_format", str, "`json` or `console`."),
    ENV_MAX_EVENTS: Variable(
        "max_events",
        int,
        "Bound of the events stream: beyond it tasks wait unacknowledged until the recorder has caught up.",
    ),
    ENV_MAX_RESULT_BYTES: Variable(
        "max_result_bytes", int, "Larger results stay out of records; Celery's own result key always holds them."
    ),
    ENV_STARTED_AFTER: Variable(
        "started_after_seconds",
        float,
        "Tasks that end sooner are never announced as running: that would cost a third of the throughput.",
    ),
}
