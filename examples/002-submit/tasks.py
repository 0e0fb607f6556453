"""A heavy task with automatic retries and exponential back-off."""

import hashlib
import time

from celery import Celery

app = Celery("submit")


@app.task(
    name="worker.tasks.heavy_task",
    autoretry_for=(OSError,),
    max_retries=5,
    retry_backoff=True,
    retry_backoff_max=60,
)
def heavy_task(data: str) -> dict[str, object]:
    """Work on the payload for a second and return what came out."""
    time.sleep(1.0)
    return {"length": len(data), "sha256": hashlib.sha256(data.encode()).hexdigest()}
