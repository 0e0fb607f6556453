"""A plain Celery app for tests on a cluster: each task notes in the result backend's server when it begins and ends."""

import json
import os
import socket
import time

from celery import Celery, Task

app = Celery("jobs")
NOTES = "taskfleet:task:runs:"  # a worker's user of the store may write such keys, and no others of its own


def note(task: Task, marker: str, what: str) -> None:
    """One line in the list of the load."""
    line = {"id": task.request.id, "pod": socket.gethostname(), "what": what, "at": time.time()}
    task.backend.client.rpush(NOTES + marker, json.dumps(line))


@app.task(name="jobs.record", bind=True)
def record(self: Task, marker: str, seconds: float) -> str:
    """Take `seconds`; return the name of the pod."""
    note(self, marker, "start")
    time.sleep(seconds)
    note(self, marker, "end")
    return socket.gethostname()


@app.task(name="jobs.variable")
def variable(name: str) -> str | None:
    """The worker's environment, to see a rollout."""
    return os.environ.get(name)
