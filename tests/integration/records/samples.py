"""Submissions and events for the tests of the records."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import uuid_utils.compat

from taskfleet_api.records import NewTask
from taskfleet_core.events import TaskEvent
from taskfleet_core.states import TaskState, position

__all__ = ["NOW", "build_event", "build_task", "build_tasks", "new_id"]

NOW = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)


def new_id() -> UUID:
    """A UUIDv7."""
    return UUID(int=uuid_utils.compat.uuid7().int)


def build_task(**fields: Any) -> NewTask:
    """A submission with what the test says, the rest as usual."""
    return NewTask(**{"id": new_id(), "queue": "mail", "task": "mail.send", "created_at": NOW, **fields})


def build_tasks(count: int, **fields: Any) -> list[NewTask]:
    """Submissions one millisecond apart."""
    return [build_task(created_at=NOW + timedelta(milliseconds=number), **fields) for number in range(count)]


def build_event(task_id: UUID, state: str, seconds: float = 1.0, **fields: Any) -> TaskEvent:
    """What a worker says `seconds` after NOW."""
    event: Any = {
        "schema": 1,
        "kind": "state",
        "id": str(task_id),
        "queue": "mail",
        "task": "mail.send",
        "state": state,
        "attempt": 1,
        "retries": 0,
        "at": NOW.timestamp() + seconds,
        "worker": "worker-1",
        **fields,
    }
    event["position"] = position(
        event["attempt"], event["retries"], TaskState(state), ends_attempt=bool(fields.get("ends_attempt"))
    )
    return event  # type: ignore[no-any-return]


def celery_id() -> UUID:
    """An id as Celery makes it: not in time order."""
    return uuid4()


def ids_of(tasks: Sequence[NewTask]) -> list[UUID]:
    """The ids of submissions."""
    return [task.id for task in tasks]
