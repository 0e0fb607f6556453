"""An unmodified Celery app with every kind of task the worker must cope with. Knows nothing of Taskfleet."""

import multiprocessing
import os
import pathlib
import signal
import time
from typing import Any
from unittest.mock import patch

from celery import Celery, Task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

app = Celery("everything", broker="amqp://nowhere", backend="redis://nowhere")
app.conf.update(
    task_acks_late=False,
    worker_prefetch_multiplier=8,
    task_default_queue=os.environ.get("DEFAULT_QUEUE", "ignored"),
    worker_pool="solo",
    task_routes={
        "everything.bound": {
            "queue": os.environ.get("DEFAULT_QUEUE", "media"),
            "exchange": "media",
            "routing_key": "media.video",
        }
    },
    task_queues=[
        Queue(os.environ.get("DEFAULT_QUEUE", "media"), Exchange("media", type="direct"), routing_key="media.video")
    ],
    # What was meant for servers that Taskfleet replaces.
    broker_transport_options={"global_keyprefix": "mine:", "priority_steps": [0, 5], "sep": ":"},
    result_backend_transport_options={"global_keyprefix": "mine:"},
    broker_use_ssl=True,
    redis_backend_use_ssl={"ssl_cert_reqs": "none"},
    redis_max_connections=1,
    broker_login_method="EXTERNAL",
    task_queue_max_priority=10,
)

TRACES = pathlib.Path(os.environ.get("TRACES", "/nonexistent"))


def trace(name: str, word: str) -> int:
    """Append a word to the file of this name; returns how many words it has."""
    with (TRACES / name).open("a") as file:
        file.write(word + "\n")
    return len((TRACES / name).read_text().split())


def wait_for(name: str, seconds: float = 60) -> None:
    """Hold the task until the test makes a file."""
    deadline = time.monotonic() + seconds
    while not (TRACES / name).exists() and time.monotonic() < deadline:
        time.sleep(0.02)


@app.task
def add(x: int, y: int = 1) -> int:
    """Sum of two numbers."""
    return x + y


@app.task
def noop() -> None:
    return None


@app.task
def give(value: Any) -> Any:
    return value


@app.task
def say(name: str, word: str) -> None:
    trace(name, word)


@app.task
def large(size: int) -> str:
    return "x" * size


@app.task
def strange() -> Any:
    import datetime
    import decimal

    return {"nan": float("nan"), "when": datetime.date(2024, 1, 2), "sum": decimal.Decimal("1.5"), "text": "a\ud800b"}


@app.task(bind=True)
def whoami(self: Task) -> dict[str, Any]:
    return {"id": self.request.id, "attempt": self.request.get("taskfleet-attempt"), "pid": os.getpid()}


@app.task
def fail(message: str = "no") -> None:
    raise ValueError(message)


@app.task(ignore_result=True)
def silent() -> int:
    return 1


@app.task(ignore_result=True)
def silent_failure() -> None:
    raise ValueError("quiet")


@app.task(bind=True, ignore_result=True, max_retries=3)
def silent_retry(self: Task, name: str) -> None:
    if trace(name, "run") < 2:
        raise self.retry(countdown=1)


@app.task(bind=True)
def progress(self: Task, steps: int) -> str:
    for step in range(steps):
        self.update_state(state="PROGRESS", meta={"current": step + 1, "total": steps})
    return "done"


@app.task(bind=True)
def own_state(self: Task) -> None:
    self.update_state(
        state="FAILURE", meta={"exc_type": "ValueError", "exc_message": ["mine"], "exc_module": "builtins"}
    )
    raise Ignore()


class Unpicklable(Exception):
    def __init__(self, text: str, *, code: int) -> None:
        super().__init__(text)
        self.code = code


@app.task
def fail_unpicklable() -> None:
    raise Unpicklable("no", code=3)


@app.task
def fork_pool() -> list[int]:
    """A pool of processes that is still busy when it is no longer wanted."""
    with multiprocessing.get_context("fork").Pool(2) as processes:
        processes.map_async(time.sleep, [60, 60])
        return [1]


@app.task
def send_on() -> str:
    """Send a task without saying where to."""
    return str(add.delay(1, 2).id)


@app.task
def bound() -> str:
    """Celery's own example of manual routing: the queue is bound to an exchange of its own."""
    return "ran"


@app.task
def send_bound() -> str:
    return str(bound.delay().id)


@app.task
def ignore() -> None:
    raise Ignore("nothing to do")


@app.task
def reject() -> None:
    raise Reject("no good", requeue=False)


@app.task
def reject_once(name: str) -> str:
    if trace(name, "run") < 2:
        raise Reject("again", requeue=True)
    return "second"


@app.task
def reject_always(name: str) -> None:
    trace(name, "run")
    raise Reject("again", requeue=True)


@app.task(bind=True, max_retries=5)
def retry_in(self: Task, name: str, seconds: float, times: int = 1) -> int:
    runs = trace(name, "run")
    if runs <= times:
        raise self.retry(countdown=seconds, exc=ValueError("not yet"))
    return runs


@app.task(bind=True, max_retries=5)
def retry_unsent(self: Task, name: str) -> str:
    """Asks for a retry while nothing can be sent, as when the broker is restarted."""
    if trace(name, "run") > 1:
        return f"retries {self.request.retries}"
    with patch.object(self.app.amqp, "send_task_message", side_effect=OperationalError("the broker closed")):
        raise self.retry(countdown=0)


@app.task(autoretry_for=(ConnectionError,), max_retries=2, retry_backoff=False, default_retry_delay=1)
def autoretry(name: str) -> None:
    trace(name, "run")
    raise ConnectionError("down")


@app.task
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@app.task
def hold(name: str) -> str:
    trace(name + ".started", "x")
    wait_for(name)
    trace(name + ".ended", "x")
    return "released"


@app.task(time_limit=1)
def too_long() -> None:
    time.sleep(30)


@app.task(soft_time_limit=1)
def softly() -> str:
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "never"


@app.task
def die(name: str, times: int = 1) -> str:
    """kill -9 of the process that runs it, the first times."""
    if trace(name, "run") <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task(bind=True)
def replace(self: Task, x: int) -> Any:
    raise self.replace(add.s(x, 10))


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def note(*words: Any) -> None:
    trace(str(words[-1]), "noted")


@app.task
def on_error(request: Any, exc: BaseException, traceback: Any) -> None:
    trace(request.id, "errback")


@app.task(rate_limit="20/s")
def limited() -> None:
    return None


@app.task(track_started=True)
def tracked(seconds: float) -> str:
    time.sleep(seconds)
    return "ok"


@app.task
def send_other(queue: str) -> str:
    return str(add.apply_async((1, 2), queue=queue, ignore_result=True).id)


@shared_task(name="shared")
def shared(word: str) -> str:
    return word.upper()


class Counted(Task):
    """A class-based task with hooks of its own."""

    name = "counted"

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        trace(task_id, "before")

    def run(self, x: int) -> int:
        return x + 1


app.register_task(Counted())


if os.environ.get("OWN_BACKEND"):
    from celery.backends.database import DatabaseBackend

    @app.task(name="foreign.own", backend=DatabaseBackend(app=app, dburi="sqlite://"))
    def own() -> None:
        return None


@app.task
def pass_on(queue: str) -> str:
    """Send a task to another queue."""
    return str(add.apply_async((1, 1), queue=queue).id)
