"""Celery's request in the worker process, taught three things: acknowledge only what is recorded, report what no child
reports (Ignore, Reject), and forget cancellations of earlier attempts.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import Ignore, Reject, Retry, WorkerLostError
from celery.worker import state as worker_state
from celery.worker.request import Request as CeleryRequest

from . import _wire, reporting
from .deliveries import note_loss
from .events import StateEvent, build_error, find_queue

__all__ = ["AlreadyDone", "Counters", "Hooks", "build_request_class", "hooks"]

REPLACED = "Replaced by new task"
_JOB = re.compile(r" Job: \d+\.$")  # a number that means something inside the pool only
LOST = (WorkerLostError, SystemExit, KeyboardInterrupt)
KILLED = "signal 9"


class TaskMemoryError(Exception):
    """Stands for the MemoryError of a task, which Celery would take for the worker's own."""


def describe_loss(exc: BaseException) -> str:
    """How a task's process came to its end, in words for the record."""
    if isinstance(exc, SystemExit):
        return f"Worker exited prematurely: exitcode {exc.code}."
    if isinstance(exc, KeyboardInterrupt):
        return "Worker exited prematurely: KeyboardInterrupt."
    text = _JOB.sub(".", str(exc))
    return text + " Killed from outside, most often because memory ran out." if KILLED in text else text


class AlreadyDone(Ignore):
    """Raised before a task's code: this copy of the message has nothing left to do."""


@dataclass
class Counters:
    """What this worker finished since its start."""

    completed: int = 0
    failed: int = 0
    runtime_seconds_sum: float = 0.0
    slow: int = 0  # ran longer than `Hooks.slow_seconds`


class Hooks:
    """What requests need of the worker; set by loader and boot steps."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.queue = ""
        self.queues: tuple[str, ...] = ()
        # A message left the worker's hands: another one may start.
        self.on_settled: Any = None
        self.max_task_seconds: float | None = None
        self.slow_seconds = float("inf")
        self.wake_loop: Any = None
        # Whether a cancellation still stands for a later attempt: asked of the store, once per such message.
        self.is_cancelled: Any = None
        self.cancellations: dict[str, float] = {}


hooks = Hooks()


class _RequestMixin:
    """Goes in front of whatever request class a task uses."""

    # Set once the fate of the message is decided and only waits for the record.
    _taskfleet_decided = False
    # Acknowledgements kept while Celery handles a failure.
    _taskfleet_held: list[Callable[[], Any]] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        info = self._delivery_info  # type: ignore[attr-defined]
        if info["exchange"]:
            # Came through the delayed-delivery exchanges: a retry must not be sent back to their end.
            info["exchange"], info["routing_key"] = "", find_queue(info, hooks.queues) or hooks.queue
        hard, soft = self.time_limits  # type: ignore[has-type]
        limit = hooks.max_task_seconds
        if hard is not None and limit is not None and hard > limit:
            self.time_limits = (limit, soft)

    def revoked(self) -> bool:
        """Whether the task is cancelled or expired; a cancellation of an earlier attempt does not count."""
        task_id: str = self.id  # type: ignore[attr-defined]
        if task_id in hooks.cancellations and self._is_later_attempt() and not hooks.is_cancelled(task_id):
            hooks.cancellations.pop(task_id, None)
            worker_state.revoked.discard(task_id)
        return bool(super().revoked())  # type: ignore[misc]

    def _is_later_attempt(self) -> bool:
        attempt = self._request_dict.get(_wire.HEADER_ATTEMPT)  # type: ignore[attr-defined]
        return isinstance(attempt, int) and attempt > 1

    def acknowledge(self) -> None:
        """Acknowledge once every change of the task that this process reported is recorded."""
        if self.acknowledged or self._taskfleet_decided:  # type: ignore[attr-defined]
            return
        if self._settle_later(super().acknowledge):  # type: ignore[misc]
            return
        self._count()
        super().acknowledge()  # type: ignore[misc]
        self._wake()

    def reject(self, requeue: bool = False) -> None:
        """Give the message back, or drop it once that is recorded."""
        drop = super().reject  # type: ignore[misc]
        if self._taskfleet_decided or (not requeue and self._settle_later(lambda: drop(False))):
            return
        drop(requeue)
        self._wake()

    def _count(self) -> None:
        counters, started = hooks.counters, self.time_start  # type: ignore[attr-defined]
        counters.completed += 1
        if started:
            seconds = time.time() - started
            counters.runtime_seconds_sum += seconds
            counters.slow += seconds > hooks.slow_seconds

    def _wake(self) -> None:
        if hooks.on_settled is not None:
            hooks.on_settled()
        if hooks.wake_loop is not None:
            hooks.wake_loop()

    def _settle_later(self, settle: Callable[[], Any]) -> bool:
        """Whether the fate of the message is decided now and told to the broker later."""
        if self._taskfleet_held is not None:
            self._taskfleet_held.append(settle)
            return True
        if reporting.defer_until_recorded(self.id, settle):  # type: ignore[attr-defined]
            # Celery goes on deciding: a process killed for its time limit is also reported as lost, and would requeue.
            self._taskfleet_decided = True
            return True
        return False

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Report what the pool did not: Ignore and a Reject that drops the message."""
        exc = exc_info.exception
        if isinstance(exc, ExceptionWithTraceback):
            exc = exc.exc
        if isinstance(exc, LOST):
            # Before the message goes back: the broker may give it up at once.
            backend = self.task.backend  # type: ignore[attr-defined]
            note_loss(backend.store, backend.taskfleet, self._identity, describe_loss(exc))
        elif isinstance(exc, MemoryError):
            # Celery ends the whole worker for it. It was the task's process that asked for too much, and it has told.
            exc_info.exception = exc = TaskMemoryError(str(exc))
        if not isinstance(exc, (Ignore, Reject, Retry)):
            hooks.counters.failed += 1
        elif isinstance(exc, Reject):
            if not exc.requeue:
                self._report(_wire.FAILED, exc, exc_info)
        elif isinstance(exc, Ignore) and not isinstance(exc, AlreadyDone) and str(exc) != REPLACED:
            self._report(_wire.SUCCEEDED, None, None)
        # Celery acknowledges first and marks the failure afterwards: hold the one until the other is done.
        self._taskfleet_held = []
        try:
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)  # type: ignore[misc]
        finally:
            held, self._taskfleet_held = self._taskfleet_held, None
            for settle in held[:1]:
                if not self._settle_later(settle):
                    self._count()
                    settle()
                    self._wake()

    def _report(self, state: str, exc: BaseException | None, exc_info: Any) -> None:
        backend = self.task.backend  # type: ignore[attr-defined]
        context = self._context  # type: ignore[attr-defined]
        context._taskfleet_no_retry = True
        event = StateEvent(state, time.time(), backend.taskfleet.host)
        if self.time_start:  # type: ignore[attr-defined]
            event.runtime_seconds = event.at - self.time_start  # type: ignore[attr-defined]
        payload: Any = ""
        if exc is not None:
            event.error = build_error(exc, getattr(exc_info, "traceback", None))
            if self.store_errors:  # type: ignore[attr-defined]
                payload = backend.encode_failure(self.id, exc, context)  # type: ignore[attr-defined]
        backend.report(self._identity, event, payload, context)

    @property
    def _identity(self) -> Any:
        return self.task.backend.identify(self._context)  # type: ignore[attr-defined]


_classes: dict[type, type] = {}
_lock = threading.Lock()


def build_request_class(base: type = CeleryRequest) -> type:
    """The task's own request class with ours in front; made once per class."""
    if issubclass(base, _RequestMixin):
        return base
    with _lock:
        if base not in _classes:
            _classes[base] = type("Request", (_RequestMixin, base), {"__module__": __name__})
        return _classes[base]
