"""Simulates work of a given length, one request after the other, and reports progress while it works."""

import time

from celery import Celery, Task

app = Celery("delay")


@app.task(name="tasks.delayed_task", bind=True)
def delayed_task(self: Task, delay: float) -> str:
    """Work for `delay` seconds."""
    ends_at = time.monotonic() + delay
    while (left := ends_at - time.monotonic()) > 0:
        self.update_state(state="PROGRESS", meta={"elapsed_seconds": round(delay - left, 3), "total_seconds": delay})
        time.sleep(min(left, 1.0))
    return "Запрос выполнен успешно"
