"""One JSON object per log line, with the id of the task that was running."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any

from celery import signals
from celery._state import get_current_task

__all__ = ["ConsoleFormatter", "JsonFormatter", "install_logging"]


def _read_task(record: logging.LogRecord) -> dict[str, Any]:
    """Id, name and attempt of the task a record belongs to: Celery's own lines carry it, others are written inside."""
    data = getattr(record, "data", None)
    if isinstance(data, dict) and "id" in data:
        return {"task_id": data["id"], "task": data.get("name")}
    task = get_current_task()
    if task is None or not task.request.id:
        return {}
    fields: dict[str, Any] = {"task_id": task.request.id, "task": task.name}
    if task.request.retries:
        fields["retries"] = task.request.retries
    return fields


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, task and traceback as one line of JSON."""

    def __init__(self, queue: str, host: str) -> None:
        super().__init__()
        self._common = {"queue": queue, "worker": host}

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "process": record.process,
            **self._common,
            **_read_task(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class ConsoleFormatter(logging.Formatter):
    """For people: time, level, task id, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(taskfleet)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        task_id = _read_task(record).get("task_id")
        record.taskfleet = f"[{task_id}] " if task_id and task_id not in record.getMessage() else ""
        return super().format(record)


def install_logging(log_format: str, queue: str, host: str) -> None:
    """Format what Celery sets up; an app that sets up logging itself (signal setup_logging) keeps its own."""

    def build() -> logging.Formatter:
        return ConsoleFormatter() if log_format == "console" else JsonFormatter(queue, host)

    def on_setup(logger: logging.Logger | None = None, **_: Any) -> None:
        for handler in (logger or logging.getLogger()).handlers:
            handler.setFormatter(build())

    signals.after_setup_logger.connect(on_setup, weak=False, dispatch_uid="taskfleet-logger")
    signals.after_setup_task_logger.connect(on_setup, weak=False, dispatch_uid="taskfleet-task-logger")
