"""What happens around a task's own code: before it runs, and after Celery is done with it.

Runs where the task runs: in a pool process, a pool thread or a greenlet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from celery import states
from celery.app.task import Task
from celery.exceptions import Reject, TaskRevokedError
from celery.utils.objects import mro_lookup
from kombu.exceptions import OperationalError

from . import _wire
from .backend import Backend
from .deliveries import ask_to_begin, fetch_loss
from .events import StateEvent, build_identity
from .request import AlreadyDone, build_request_class
from .runs import Run, Watcher, end_run, set_current_run
from .settings import WorkerSettings

__all__ = ["DeliveryLimitError", "Execution"]

logger = logging.getLogger("taskfleet.worker")

UNSENT = (OperationalError, OSError)  # what kombu raises when a message did not reach the broker


class DeliveryLimitError(Exception):
    """The message was delivered too often without the task coming to an end."""


class Execution:
    """Hooks around every task of one app."""

    def __init__(self, settings: WorkerSettings, *, counts_deliveries: bool) -> None:
        self._settings = settings
        self._counts_deliveries = counts_deliveries
        self._watcher = Watcher(lambda run: run.task.backend.announce_running(run))

    def install(self, task: Task) -> None:
        """Bind the hooks and the forced options to one task; options a class binds beat the app's configuration."""
        cls = type(task)
        settings = self._settings
        cls.acks_late = task.acks_late = True
        cls.reject_on_worker_lost = task.reject_on_worker_lost = True
        for name in ("acks_on_failure_or_timeout", "acks_on_failure", "acks_on_timeout"):
            if hasattr(cls, name):
                setattr(cls, name, True)
        if task.track_started and not hasattr(cls, "taskfleet_track_started"):
            cls.taskfleet_track_started = True
        cls.track_started = task.track_started = False
        if settings.max_task_seconds is not None:
            cls.time_limit = min(task.time_limit or settings.max_task_seconds, settings.max_task_seconds)
        cls.Request = build_request_class(_resolve(task.Request))
        own = _unwrap(getattr(mro_lookup(cls, "before_start", stop={Task, object}), "before_start", None))
        cls.before_start = self._build_before_start(own)
        cls.retry = _build_retry(_unwrap(cls.retry))

    def _build_before_start(self, own: Any) -> Any:
        begin = self.begin

        def before_start(task: Any, task_id: str, args: Any, kwargs: Any) -> None:
            begin(task)
            if own is not None:
                own(task, task_id, args, kwargs)

        before_start.taskfleet_own = own  # type: ignore[attr-defined]
        return before_start

    def begin(self, task: Any) -> None:
        """Start of a run; raises AlreadyDone when this message has nothing left to do."""
        request = task.request
        if request.is_eager:
            return
        identity = build_identity(request, self._settings.queues, task.name)
        run = Run(task, request, identity, self._settings.started_after_seconds)
        request._taskfleet_run = run
        set_current_run(run)
        if identity.redelivered or request.get(_wire.HEADER_REPUBLISHED):
            self._begin_again(task, run)
        self._watcher.add(run)

    def _begin_again(self, task: Any, run: Run) -> None:
        backend, request = task.backend, run.request
        verdict = ask_to_begin(backend.store, self._settings, run.identity, self._counts_deliveries)
        if isinstance(verdict, int):
            if run.identity.redelivered:
                run.identity.deliveries = verdict + 1
            return
        run.ended = True
        logger.info("task %s[%s] is not run again: %s", task.name, request.id, verdict)
        now, host = time.time(), self._settings.host
        if verdict == "cancelled":
            revoked = TaskRevokedError("cancelled")
            event = StateEvent(_wire.CANCELLED, now, host, error={"type": "TaskRevokedError", "message": "cancelled"})
            backend.report(
                run.identity, event, backend.encode_failure(request.id, revoked, request, states.REVOKED), request
            )
        elif verdict == "dead":
            loss = fetch_loss(backend.store, run.identity)
            limit = f"delivered more than {self._settings.delivery_limit} times again"
            error = DeliveryLimitError(f"{limit}; the last time: {loss}" if loss else limit)
            event = StateEvent(_wire.DEAD, now, host, error={"type": "DeliveryLimitError", "message": str(error)})
            backend.report(run.identity, event, backend.encode_failure(request.id, error, request), request)
        elif request.chord:
            _count_chord_part(backend, request)
        raise AlreadyDone(verdict)

    def finish(self) -> None:
        """End of a run, however it went."""
        run = end_run()
        if run is None:
            return
        if run.manual is not None and not run.ended:
            # The task stored its own outcome and then raised Ignore.
            state, result = run.manual
            backend: Backend = run.task.backend
            event = StateEvent(state, time.time(), self._settings.host)
            backend.report_manual(run, event, result)
        run.ended = True


def _build_retry(own: Callable[..., Any]) -> Callable[..., Any]:
    """Celery drops a message whose retry it cannot send, and the task with it: it goes back to the broker instead."""

    def retry(task: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return own(task, *args, **kwargs)
        except Reject as error:
            if not isinstance(error.reason, UNSENT):
                raise
            logger.warning(
                "task %s[%s] runs again: its retry could not be sent: %s", task.name, task.request.id, error.reason
            )
            raise Reject(error.reason, requeue=True) from error.reason

    retry.taskfleet_own = own  # type: ignore[attr-defined]
    return retry


def _count_chord_part(backend: Backend, request: Any) -> None:
    """The first run may have died between its result and its chord; a part counts only once."""
    meta = backend.get_task_meta(request.id, cache=False)
    if meta.get("status") == states.SUCCESS:
        backend.on_chord_part_return(request, states.SUCCESS, meta.get("result"))


def _resolve(reference: Any) -> Any:
    from celery.utils.imports import symbol_by_name

    return symbol_by_name(reference)


def _unwrap(found: Any) -> Any:
    """The class's own method below ours: a base class may have been prepared earlier."""
    while hasattr(found, "taskfleet_own"):
        found = found.taskfleet_own
    return found
