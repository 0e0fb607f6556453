"""Processes a named task; a name that starts with "fail" fails, so that both outcomes can be seen in the table."""

import time

from celery import Celery

app = Celery("crud")


@app.task(name="worker.process_task")
def process_task(task_id: int, name: str) -> str:
    """Process the task with this row id."""
    time.sleep(1.0)
    if name.lower().startswith("fail"):
        raise ValueError(f"task {task_id} was asked to fail")
    return f"{name} processed"
