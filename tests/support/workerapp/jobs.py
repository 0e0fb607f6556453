"""A plain Celery app as a user would write it, with nothing of Taskfleet in it: for acceptance tests and benches."""

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task, chain

app = Celery("jobs")


def note_execution(ledger: str, request: Any) -> None:
    """Append one line that says that the body of this task ran, and why the message came, in one atomic write."""
    facts = {
        "id": request.id,
        "pid": os.getpid(),
        "at": time.time(),
        "attempt": request.get("taskfleet-attempt") or 1,
        "retries": request.retries or 0,
        "republished": bool(request.get("taskfleet-republished")),
        "redelivered": bool((request.delivery_info or {}).get("redelivered")),
    }
    _append(ledger, facts)


def note_end(ledger: str, request: Any, again: bool = False) -> None:
    """Say that the body came to its end; `again`: it will raise, so that it is run once more."""
    _append(ledger, {"ended": request.id, "pid": os.getpid(), "again": again})


def _append(ledger: str, line: dict[str, Any]) -> None:
    descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


@app.task
def add(x: float, y: float) -> float:
    return x + y


@app.task
def total(numbers: list[float]) -> float:
    return sum(numbers)


@app.task
def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"args": list(args), "kwargs": kwargs}


@app.task(ignore_result=True)
def noop() -> None:
    return None


@app.task
def noop_result() -> None:
    return None


@app.task
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task
def fail(message: str = "no luck") -> None:
    raise ValueError(message)


@app.task
def fail_until(path: str, successes_after: int) -> int:
    """Fail until the file has that many lines: each run adds one."""
    with Path(path).open("a") as file:
        file.write("run\n")
    runs = len(Path(path).read_text().splitlines())
    if runs < successes_after:
        raise RuntimeError(f"run {runs} fails")
    return runs


@app.task(bind=True, autoretry_for=(RuntimeError,), retry_backoff=False, default_retry_delay=0.2, max_retries=3)
def flaky(self: Task, path: str, successes_after: int) -> int:
    return fail_until.run(path, successes_after)


@app.task(bind=True)
def progress(self: Task, steps: int, pause_seconds: float = 0.05) -> int:
    for step in range(1, steps + 1):
        self.update_state(state="PROGRESS", meta={"done": step, "total": steps})
        time.sleep(pause_seconds)
    return steps


@app.task(bind=True)
def record_order(self: Task, ledger: str, label: str) -> str:
    with Path(ledger).open("a") as file:
        file.write(f"{label}\n")
    return label


@app.task(bind=True)
def record(self: Task, ledger: str, seconds: float = 0.0) -> str:
    """Note the execution first, so that a run that is killed half way counts too."""
    note_execution(ledger, self.request)
    if seconds:
        time.sleep(seconds)
    note_end(ledger, self.request)
    return str(self.request.id)


@app.task(bind=True, max_retries=10, default_retry_delay=0.3)
def record_retried(self: Task, ledger: str, seconds: float = 0.0) -> str:
    """As `record`, but the first run asks Celery for another one."""
    note_execution(ledger, self.request)
    time.sleep(seconds)
    again = not self.request.retries
    note_end(ledger, self.request, again)
    if again:
        raise self.retry()
    return str(self.request.id)


@app.task(bind=True)
def record_failing(self: Task, ledger: str, seconds: float = 0.0) -> str:
    """As `record`, but the first attempt fails, for the platform to begin another one."""
    note_execution(ledger, self.request)
    time.sleep(seconds)
    again = (self.request.get("taskfleet-attempt") or 1) == 1
    note_end(ledger, self.request, again)
    if again:
        raise RuntimeError("the first attempt fails")
    return str(self.request.id)


@app.task(bind=True)
def record_hungry(self: Task, ledger: str, mebibytes: int) -> str:
    """As `record`, but the first runs take memory without end (bounded by `mebibytes`), for the kernel to kill them."""
    note_execution(ledger, self.request)
    taken = [] if (self.request.delivery_info or {}).get("redelivered") else [b"x" * 2**20 for _ in range(mebibytes)]
    note_end(ledger, self.request)
    return str(len(taken))


@app.task
def started_at() -> float:
    """Unix time at which the body runs, to measure the latency of a start."""
    return time.time()


@app.task(bind=True)
def headers(self: Task) -> dict[str, Any]:
    return {
        "traceparent": (self.request.headers or {}).get("traceparent") or getattr(self.request, "traceparent", None),
        "retries": self.request.retries,
        "delivery_info": {"redelivered": bool((self.request.delivery_info or {}).get("redelivered"))},
    }


@app.task
def die_hard(signal_number: int = 9) -> None:
    """Kill the own worker process, as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal_number)


@app.task
def die_until(path: str, successes_after: int) -> int:
    """Kill the own process until the file has that many lines."""
    with Path(path).open("a") as file:
        file.write("run\n")
    runs = len(Path(path).read_text().splitlines())
    if runs < successes_after:
        os.kill(os.getpid(), 9)
    return runs


@app.task
def canvas() -> str:
    """Start a chain with a group and a chord from inside a task; the id of the last one is the result."""
    queue = os.environ.get("TASKFLEET_QUEUE")
    signature = chain(
        add.s(1, 2).set(queue=queue),
        add.s(3).set(queue=queue),
    )
    return str(signature.apply_async().id)


@app.task(bind=True)
def record_and_fail_until(self: Task, ledger: str, attempt: int) -> str:
    """Note the execution, and fail before that attempt of the platform."""
    note_execution(ledger, self.request)
    if (self.request.get("taskfleet-attempt") or 1) < attempt:
        raise RuntimeError("not yet")
    return str(self.request.id)
