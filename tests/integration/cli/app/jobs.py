"""A plain Celery app without a word about Taskfleet. Every run leaves a line in the file that RUNS_FILE names."""

import os
import time
from pathlib import Path

from celery import Celery, Task

app = Celery("jobs")


def note(task: Task) -> None:
    """One line for each run; a short append is atomic."""
    with Path(os.environ["RUNS_FILE"]).open("a") as file:
        file.write(f"{task.request.id}\n")


@app.task(name="jobs.add", bind=True)
def add(self: Task, x: int, y: int) -> int:
    """Add two numbers."""
    note(self)
    return x + y


@app.task(name="jobs.steps", bind=True)
def steps(self: Task, seconds: float, count: int = 5) -> int:
    """Take a while and report progress."""
    note(self)
    for step in range(1, count + 1):
        time.sleep(seconds / count)
        self.update_state(state="PROGRESS", meta={"current": step, "total": count})
    return count


@app.task(name="jobs.wait_for", bind=True)
def wait_for(self: Task, path: str, at_most_seconds: float = 120) -> bool:
    """Run until a file exists."""
    note(self)
    deadline = time.monotonic() + at_most_seconds
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.02)
    return True


@app.task(name="jobs.fail")
def fail() -> None:
    """Fail for good."""
    raise ValueError("it cannot be done")
