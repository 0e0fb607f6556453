"""Sends a message over a line that fails seven times in ten; Celery tries again after 1, 2 and 4 seconds."""

import os
import random

from celery import Celery, Task
from celery.utils.log import get_task_logger

FAILURE_RATE = float(os.environ.get("SEND_FAILURE_RATE", "0.7"))

app = Celery("send_message")
logger = get_task_logger(__name__)


@app.task(
    name="worker.send",
    bind=True,
    autoretry_for=(ConnectionError,),
    max_retries=3,  # three more tries after the first: four in all
    retry_backoff=True,  # 1, 2, 4 seconds
    retry_jitter=False,  # exactly those, so that the log shows them
)
def send(self: Task, msg: str) -> str:
    """Send one message."""
    number = self.request.retries + 1
    logger.info("sending message, try %d of %d: %s", number, self.max_retries + 1, msg)
    if random.random() < FAILURE_RATE:
        raise ConnectionError(f"temporary failure in try {number} (simulated)")
    return f"Message sent: {msg}"
