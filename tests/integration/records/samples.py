"""Submissions and events for the tests of the records."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.support.events import build_state_event, new_id

from taskfleet_api.records import NewTask
from taskfleet_core.events import TaskEvent
from taskfleet_core.states import TaskState

__all__ = ["NOW", "build_event", "build_task", "build_tasks", "celery_id", "ids_of", "new_id"]

NOW = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)


def build_task(**fields: Any) -> NewTask:
    """A submission with what the test says, the rest as usual."""
    return NewTask(**{"id": new_id(), "queue": "mail", "task": "mail.send", "created_at": NOW, **fields})


def build_tasks(count: int, **fields: Any) -> list[NewTask]:
    """Submissions one millisecond apart."""
    return [build_task(created_at=NOW + timedelta(milliseconds=number), **fields) for number in range(count)]


def build_event(task_id: UUID, state: str, seconds: float = 1.0, **fields: Any) -> TaskEvent:
    """What a worker says `seconds` after NOW."""
    usual = {"queue": "mail", "task": "mail.send", "at": NOW.timestamp() + seconds, "worker": "worker-1"}
    return build_state_event(TaskState(state), task_id, **usual | fields)


def celery_id() -> UUID:
    """An id as Celery makes it: not in time order."""
    return uuid4()


def ids_of(tasks: Sequence[NewTask]) -> list[UUID]:
    """The ids of submissions."""
    return [task.id for task in tasks]
