"""Simulates work on a described task; `"fail": true` in its metadata makes it fail."""

import time
from typing import Any

from celery import Celery

app = Celery("async_task_queue")


@app.task(name="worker.process_task")
def process_task(title: str, description: str, metadata: dict[str, Any] | None = None) -> str:
    """Work for `metadata.seconds` (default two) seconds."""
    details = metadata or {}
    time.sleep(float(details.get("seconds", 2.0)))
    if details.get("fail"):
        raise RuntimeError(f"{title}: asked to fail")
    return f"{title}: done"
