"""Celery's result of a task that the API itself ends: `AsyncResult.get()` must not wait for ever. Pure."""

import json
from datetime import UTC, datetime
from typing import Any

from taskfleet_core.events import TaskEvent
from taskfleet_core.states import TaskState

__all__ = ["RESULT_KEY_PREFIX", "RESULT_TTL_SECONDS", "build_celery_result"]

RESULT_KEY_PREFIX = "celery-task-meta-"  # of Celery's Redis backend
RESULT_TTL_SECONDS = 86_400  # Celery's default for result_expires

# state -> (Celery's state, exception, its module): what a worker would have written.
_OUTCOMES = {
    TaskState.CANCELLED: ("REVOKED", "TaskRevokedError", "celery.exceptions"),
    TaskState.EXPIRED: ("REVOKED", "TaskRevokedError", "celery.exceptions"),
    TaskState.DEAD: ("FAILURE", "WorkerLostError", "billiard.exceptions"),
    TaskState.FAILED: ("FAILURE", "RuntimeError", "builtins"),
}


def build_celery_result(event: TaskEvent) -> str:
    """The result as Celery's JSON; empty for states that end nothing or that only a worker can know."""
    outcome = _OUTCOMES.get(TaskState(event["state"]))
    if outcome is None:
        return ""
    state, exception, module = outcome
    error = event.get("error")
    message = error["message"] if error else event["state"]
    meta: dict[str, Any] = {
        "status": state,
        "result": {"exc_type": exception, "exc_message": [message], "exc_module": module},
        "traceback": None,
        "children": [],
        "date_done": datetime.fromtimestamp(event["at"], UTC).isoformat(),
        "task_id": event["id"],
    }
    return json.dumps(meta)
