"""Celery's Redis result backend that also tells Taskfleet: result key, live state, event and announcement at once.

A change of a task that this worker executes goes through `report`; everything else (groups, chords, results of other
tasks) is Celery's own code. No call returns before the store has the change, except in the worker's event loop: there
the reporter repeats it and the message stays unacknowledged until it is recorded.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timezone
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend
from celery.exceptions import Retry

from . import _wire, reporting
from .encoding import encode_value
from .events import (
    Identity,
    StateEvent,
    build_error,
    build_identity,
    build_stored_error,
    encode_event,
    encode_progress_prefix,
)
from .forks import end_if_forked
from .runs import Run
from .scripts import CHANGE, PROGRESS
from .settings import WorkerSettings, load_settings
from .store import RETRYABLE, Store, StoreFullError, limit_waits, persist
from .tls import add_verification

__all__ = ["Backend"]

PROGRESS_STREAM_SECONDS = 1.0
_MARK = "_taskfleet_mark"
_STATE_OF = {
    states.SUCCESS: _wire.SUCCEEDED,
    states.FAILURE: _wire.FAILED,
    states.REVOKED: _wire.CANCELLED,
    states.RETRY: _wire.RETRYING,
    states.STARTED: _wire.RUNNING,
}


class Backend(RedisBackend):
    """Result backend of Taskfleet workers; made for one queue, read from the environment."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("url"):
            ca_file = os.environ.get(_wire.ENV_REDIS_CA_FILE) or None
            kwargs["url"] = add_verification(kwargs["url"], ca_file)
        super().__init__(*args, **kwargs)
        limit_waits(self.connparams)
        self.always_retry = True
        self.max_sleep_between_retries_ms = 1000
        self.taskfleet: WorkerSettings = load_settings()
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """Scripts over this backend's own connection pool."""
        if self._store is None:
            self._store = Store(self.client.connection_pool)
        return self._store

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """Also what passes by itself: out of memory, read-only replica, failing disk, loading."""
        return isinstance(exc, RETRYABLE) or bool(super().exception_safe_to_retry(exc))

    # What Celery calls

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        if not _is_executed(request, task_id):
            super().mark_as_done(task_id, result, request, store_result, state)
            return
        stores = store_result and not request.ignore_result
        if not stores:
            self._report_result(task_id, result, request)
            super().mark_as_done(task_id, result, request, False, state)
            return
        with _Mark(request, StateEvent(_STATE_OF.get(state, _wire.SUCCEEDED), time.time(), self.taskfleet.host)):
            super().mark_as_done(task_id, result, request, True, state)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        if not _is_executed(request, task_id):
            super().mark_as_failure(task_id, exc, traceback, request, store_result, call_errbacks, state)
            return
        identity = self.identify(request)
        event = StateEvent(_wire.FAILED, time.time(), self.taskfleet.host, error=build_error(exc, traceback))
        if identity.has_attempts_left and not getattr(request, "_taskfleet_no_retry", False):
            # The platform runs it again: no final result, no errbacks, no chord part yet.
            event.state, event.ends_attempt = _wire.RETRYING, True
            payload = self._encode_meta(
                task_id, self.encode_result(exc, states.RETRY), states.RETRY, traceback, request
            )
            self.report(identity, event, payload if store_result else "", request)
            return
        if not store_result:
            self.report(identity, event, "", request)
            super().mark_as_failure(task_id, exc, traceback, request, False, call_errbacks, state)
            return
        with _Mark(request, event):
            super().mark_as_failure(task_id, exc, traceback, request, True, call_errbacks, state)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        if not _is_executed(request, task_id):
            super().mark_as_revoked(task_id, reason, request, store_result, state)
            return
        name = _wire.EXPIRED if reason == "expired" else _wire.CANCELLED
        error = {"type": "TaskRevokedError", "message": str(reason)}
        event = StateEvent(name, time.time(), self.taskfleet.host, error=error)
        if not store_result:
            self.report(self.identify(request), event, "", request)
            super().mark_as_revoked(task_id, reason, request, False, state)
            return
        with _Mark(request, event):
            super().mark_as_revoked(task_id, reason, request, True, state)

    def mark_as_retry(
        self,
        task_id: str,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> Any:
        # A Retry in place of the cause is Celery's word for a run that the worker itself cancelled: the message goes
        # back to the broker, so nothing new was sent that could supersede it.
        if not _is_executed(request, task_id) or isinstance(exc, Retry):
            return super().mark_as_retry(task_id, exc, traceback, request, store_result, state)
        with _Mark(request, self.build_retry(exc, traceback, sys.exc_info()[1])):
            return super().mark_as_retry(task_id, exc, traceback, request, store_result, state)

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        if not _is_executed(request, task_id):
            return super().store_result(task_id, result, state, traceback=traceback, request=request, **kwargs)
        encoded = self.encode_result(result, state)
        payload = self._encode_meta(task_id, encoded, state, traceback, request)
        event: StateEvent | None = getattr(request, _MARK, None)
        setattr(request, _MARK, None)
        if event is None:
            self._store_by_task(task_id, result, state, payload, request)
            return encoded
        if event.state == _wire.SUCCEEDED:
            event.result = encode_value(encoded)
        self.report(self.identify(request), event, payload, request)
        return encoded

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> Any:
        """A chord's part is counted once however often it is reported, so a lost connection repeats it."""
        if reporting.is_event_loop():
            return super().on_chord_part_return(request, state, result, **kwargs)
        return persist(lambda: super(Backend, self).on_chord_part_return(request, state, result, **kwargs), request.id)

    # What Taskfleet adds

    def identify(self, request: Any) -> Identity:
        """Identity of the executed task, made once per request."""
        run = getattr(request, "_taskfleet_run", None)
        if run is not None:
            return run.identity
        identity: Identity | None = getattr(request, "_taskfleet_identity", None)
        if identity is None:
            identity = build_identity(request, self.taskfleet.queues, request.task)
            request._taskfleet_identity = identity
        return identity

    def report(self, identity: Identity, event: StateEvent, payload: Any = "", request: Any = None) -> bool:
        """Record a change of state; returns whether it was new. `payload` is Celery's result, "" leaves that alone."""
        run: Run | None = getattr(request, "_taskfleet_run", None)
        if run is not None:
            end_if_forked(run.pid, identity.id)
            run.ended = run.ended or event.state != _wire.RUNNING
            event.progress = run.progress
            if event.state not in (_wire.RUNNING, _wire.CANCELLED, _wire.EXPIRED) and event.runtime_seconds is None:
                event.runtime_seconds = time.monotonic() - run.started
        parameters = self.build_change(identity, event, payload)

        def work() -> bool:
            return self.apply_change(parameters)

        if reporting.is_event_loop():
            return reporting.report_from_loop(work, identity.id)
        return bool(persist(work, identity.id))

    def build_change(self, identity: Identity, event: StateEvent, payload: Any = "") -> tuple[Any, ...]:
        """Keys and arguments of the CHANGE script."""
        place = _wire.position(identity.attempt, identity.retries, event.state, ends_attempt=event.ends_attempt)
        settings = self.taskfleet
        return (
            3,
            _wire.TASK_KEY_PREFIX + identity.id,
            _wire.EVENTS_STREAM,
            self.get_key_for_task(identity.id),
            place,
            "1" if event.state == _wire.RUNNING else "0",
            encode_event(identity, event, place, settings.max_result_bytes),
            _wire.UPDATES_CHANNEL_PREFIX + identity.id,
            settings.live_ttl_seconds,
            settings.max_events,
            payload,
            int((self.failure_expires_seconds if event.state == _wire.FAILED else self.expires) or 0),
        )

    def apply_change(self, parameters: tuple[Any, ...]) -> bool:
        """Run the CHANGE script once. Raises StoreFullError, redis.RedisError or OSError."""
        answer = self.store.run(CHANGE, *parameters)
        if answer == -1:
            raise StoreFullError("the events stream is over its bound")
        return bool(answer)

    @property
    def failure_expires_seconds(self) -> int | None:
        """`result_failure_expires` of Celery 5.7; older versions have one lifetime for all results."""
        return getattr(self, "failure_expires", self.expires)

    def announce_running(self, run: Run) -> None:
        """Report a run that lasts; one attempt, called from the watcher's thread."""
        event = StateEvent(_wire.RUNNING, run.started_at, self.taskfleet.host)
        payload: Any = ""
        if getattr(run.task, "taskfleet_track_started", False) and not run.request.ignore_result:
            meta = {"pid": os.getpid(), "hostname": run.request.hostname}
            payload = self._encode_meta(run.identity.id, meta, states.STARTED, None, run.request)
        self.apply_change(self.build_change(run.identity, event, payload))

    def build_retry(self, exc: BaseException | None, traceback: Any, reason: Any) -> StateEvent:
        """Celery's own retry; `reason` is the Retry that says when."""
        event = StateEvent(_wire.RETRYING, time.time(), self.taskfleet.host)
        when = getattr(reason, "when", None)
        if isinstance(when, (int, float)):
            event.retry_at = event.at + when
        elif isinstance(when, datetime):
            event.retry_at = (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
        if exc is not None:
            event.error = build_error(exc, traceback)
        return event

    def encode_failure(self, task_id: str, exc: BaseException, request: Any, state: str = states.FAILURE) -> Any:
        """Celery's result of a task that ended without its code having the last word."""
        return self._encode_meta(task_id, self.encode_result(exc, state), state, None, request)

    def report_manual(self, run: Run, event: StateEvent, result: Any) -> None:
        """The outcome that a task stored itself before it raised Ignore; Celery's key holds it already."""
        if event.state == _wire.SUCCEEDED:
            event.result = encode_value(result)
        else:
            event.error = build_stored_error(result)
        self.report(run.identity, event, "", run.request)

    def _report_result(self, task_id: str, result: Any, request: Any) -> None:
        """Success of a task with ignore_result: no result is kept anywhere."""
        self.report(self.identify(request), StateEvent(_wire.SUCCEEDED, time.time(), self.taskfleet.host), "", request)

    def _store_by_task(self, task_id: str, result: Any, state: str, payload: Any, request: Any) -> None:
        """`update_state` called by the task itself, or a state without a mark."""
        key, seconds = self.get_key_for_task(task_id), int(self.expires or 0)

        def write() -> None:
            self.store.command("SET", key, payload, *(("EX", seconds) if seconds else ()))
            self.store.command("PUBLISH", key, payload)

        persist(write, task_id, gave_up=reporting.is_event_loop)
        run = getattr(request, "_taskfleet_run", None)
        if run is None:
            return
        if state in states.READY_STATES:
            run.manual = (_STATE_OF.get(state, _wire.FAILED), result)
        elif state not in (states.STARTED, states.RETRY, states.PENDING):
            self._report_progress(run, result)

    def _report_progress(self, run: Run, meta: Any) -> None:
        now = time.monotonic()
        streams = now - run.progress_streamed_at >= PROGRESS_STREAM_SECONDS
        text = encode_value(meta)
        if len(text) > self.taskfleet.max_result_bytes:
            return
        place = _wire.position(run.identity.attempt, run.identity.retries, _wire.RUNNING)
        parameters = (
            2,
            _wire.TASK_KEY_PREFIX + run.identity.id,
            _wire.EVENTS_STREAM,
            place,
            encode_progress_prefix(run.identity, place, time.time(), self.taskfleet.host, text),
            _wire.UPDATES_CHANNEL_PREFIX + run.identity.id,
            self.taskfleet.live_ttl_seconds,
            self.taskfleet.max_events if streams else 0,
        )
        count = persist(lambda: self.store.run(PROGRESS, *parameters), run.identity.id)
        if streams:
            run.progress_streamed_at = now
        run.progress = f',"progress":{text},"progress_count":{count}'

    def _encode_meta(self, task_id: str, encoded: Any, state: str, traceback: Any, request: Any) -> Any:
        meta = self._get_result_meta(result=encoded, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id
        return self.encode(meta)


class _Mark:
    """Tells `store_result`, called by Celery in between, which change it writes."""

    def __init__(self, request: Any, event: StateEvent) -> None:
        self._request, self._event = request, event

    def __enter__(self) -> None:
        setattr(self._request, _MARK, self._event)

    def __exit__(self, *_: Any) -> None:
        setattr(self._request, _MARK, None)


def _is_executed(request: Any, task_id: str) -> bool:
    """Whether this is the request of a delivery this worker has in hand, not one made up for a chain or an errback."""
    return (
        request is not None
        and getattr(request, "hostname", None) is not None
        and getattr(request, "id", None) == task_id
        and not getattr(request, "is_eager", False)
        and getattr(request, "task", None) is not None
    )
