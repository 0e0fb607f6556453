"""What the environment tells an injected worker; read once, at import of the loader."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import _wire
from .tls import add_verification

__all__ = ["WorkerSettings", "load_settings"]

ENV_MAX_EVENTS = "TASKFLEET_MAX_EVENTS"
ENV_MAX_RESULT_BYTES = "TASKFLEET_MAX_RESULT_BYTES"
ENV_STARTED_AFTER = "TASKFLEET_STARTED_AFTER_SECONDS"

DEFAULT_MAX_TASK_SECONDS = 3600.0


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of one worker process and of its children."""

    queue: str
    redis_url: str  # with how to verify its certificate
    broker_ca_file: str | None = None
    # All queues that are served, with their weights, where these are several.
    weights: dict[str, int] = field(default_factory=dict)
    # The broker user is the queue's own and declares nothing: `delays`, or `waits` if it may not delay at the broker.
    confined: str | None = None
    host: str = field(default_factory=platform.node)
    pod_uid: str | None = None
    # Hard time limit where the pool has one; None: whatever the app says.
    max_task_seconds: float | None = None
    # How long a drain may take before running tasks are handed back to the broker.
    grace_seconds: float = DEFAULT_MAX_TASK_SECONDS
    accept_content: tuple[str, ...] = ("json",)
    # Redeliveries before a task is dead; counted here only where the broker does not (Redis). None: no limit.
    delivery_limit: int | None = None
    health_file: str | None = None
    log_format: str = "json"
    # Bound of the events stream: beyond it tasks wait unacknowledged until the recorder has caught up.
    max_events: int = 1_000_000
    # Larger results stay out of events; Celery's own result key always holds them.
    max_result_bytes: int = 1024 * 1024
    # Tasks that end sooner are never announced as running: writing that always costs a third of the throughput.
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
    for name, (attribute, parse) in _FIELDS.items():
        text = environ.get(name, "")
        if not text:
            continue
        try:
            values[attribute] = parse(text)
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


_FIELDS: dict[str, tuple[str, Callable[[str], object]]] = {
    _wire.ENV_QUEUE: ("queue", str),
    _wire.ENV_QUEUES: ("weights", _parse_weights),
    _wire.ENV_REDIS_URL: ("redis_url", str),
    _wire.ENV_BROKER_CA_FILE: ("broker_ca_file", str),
    _wire.ENV_CONFINED: ("confined", str),
    _wire.ENV_HOST: ("host", str),
    _wire.ENV_POD_UID: ("pod_uid", str),
    _wire.ENV_MAX_TASK_SECONDS: ("max_task_seconds", float),
    _wire.ENV_GRACE_SECONDS: ("grace_seconds", float),
    _wire.ENV_ACCEPT_CONTENT: ("accept_content", _split),
    _wire.ENV_DELIVERY_LIMIT: ("delivery_limit", int),
    _wire.ENV_HEALTH_FILE: ("health_file", str),
    _wire.ENV_LOG_FORMAT: ("log_format", str),
    ENV_MAX_EVENTS: ("max_events", int),
    ENV_MAX_RESULT_BYTES: ("max_result_bytes", int),
    ENV_STARTED_AFTER: ("started_after_seconds", float),
}
