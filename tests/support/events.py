"""Builders of records, events, heartbeats and registrations for tests, with every field that must be there."""

import time
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from uuid_utils import uuid7

from taskfleet_api.records import NewTask, TaskRecord
from taskfleet_core.events import Heartbeat, QueueRegistration, TaskEvent
from taskfleet_core.states import TaskState, position

__all__ = [
    "build_heartbeat",
    "build_new_task",
    "build_progress_event",
    "build_record",
    "build_registration",
    "build_state_event",
    "new_id",
]


def new_id() -> UUID:
    """A fresh task id."""
    return UUID(int=uuid7().int)


def build_new_task(queue: str = "q", **more: Any) -> NewTask:
    """A submission."""
    fields: dict[str, Any] = {"id": new_id(), "task": "demo.add", "created_at": datetime.now(UTC)} | more
    return NewTask(queue=queue, **fields)


def build_record(state: TaskState = TaskState.QUEUED, **more: Any) -> TaskRecord:
    """A record in its first attempt."""
    now = datetime.now(UTC)
    fields: dict[str, Any] = dict.fromkeys(TaskRecord.__dataclass_fields__)
    attempt = more.get("attempt", 1)
    fields |= {"id": new_id(), "queue": "q", "task": "demo.add", "args": "[]", "kwargs": "{}", "origin": "api"}
    fields |= {"state": state, "attempt": attempt, "retries": 0, "position": position(attempt, 0, state)}
    fields |= {"created_at": now, "updated_at": now, "cancel_requested": False, "deliveries": 0, "principal": ""}
    return TaskRecord(**(fields | {"progress_count": 0, "earlier_attempts": ()} | more))


def build_state_event(
    state: TaskState, task_id: UUID | str | None = None, *, attempt: int = 1, queue: str = "q", **more: Any
) -> TaskEvent:
    """What a worker says about a task."""
    retries, ends = more.get("retries", 0), more.get("ends_attempt", False)
    event = {
        "schema": 1,
        "kind": "state",
        "id": str(task_id or new_id()),
        "queue": queue,
        "task": "demo.add",
        "state": state.value,
        "attempt": attempt,
        "retries": retries,
        "position": position(attempt, retries, state, ends_attempt=ends),
        "at": time.time(),
        "worker": "w1",
    }
    return cast(TaskEvent, event | more)


def build_progress_event(task_id: UUID | str, count: int, progress: Any, **more: Any) -> TaskEvent:
    """A progress report."""
    event = build_state_event(TaskState.RUNNING, task_id)
    return cast(TaskEvent, event | {"kind": "progress", "progress": progress, "progress_count": count} | more)


def build_heartbeat(queue: str = "q", host: str = "h1", tasks: tuple[str, ...] = (), **more: Any) -> Heartbeat:
    """A living worker."""
    now = time.time()
    beat = {
        "schema": 1,
        "queue": queue,
        "host": host,
        "pid": 1,
        "pool": "prefork",
        "slots": 1,
        "busy": len(tasks),
        "tasks": list(tasks),
        "consuming": True,
        "started_at": now,
        "at": now,
        "completed": 0,
        "failed": 0,
        "runtime_seconds_sum": 0.0,
        "celery": "5.7.0",
        "python": "3.11",
    }
    return cast(Heartbeat, beat | more)


def build_registration(queue: str = "q", broker: str = "default", **limits: Any) -> QueueRegistration:
    """A registered queue."""
    return QueueRegistration(
        schema=1,
        namespace="default",
        name=queue,
        queueName=queue,
        uid=f"uid-{queue}",
        broker=broker,
        limits=limits,
        at=time.time(),
    )
