"""Cancellations: a subscription for speed, the queue's set of cancelled ids for certainty."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from celery.worker import state as worker_state

from . import _wire
from .heartbeat import open_client
from .loopcalls import LoopCalls
from .request import hooks
from .settings import WorkerSettings
from .store import RETRYABLE

__all__ = ["Control"]

logger = logging.getLogger("taskfleet.worker")

RELOAD_SECONDS = 5.0
REMEMBER_SECONDS = 3 * 3600.0
RETRY_SECONDS = 1.0
TERMINATE_SECONDS = 5.0  # between SIGTERM and SIGKILL of a task that shall end


class Control:
    """Listens for cancellations of the worker's queues and applies them in the event loop."""

    def __init__(self, settings: WorkerSettings, worker: Any, loop: LoopCalls) -> None:
        self._channels = [_wire.CONTROL_CHANNEL_PREFIX + queue for queue in settings.queues]
        self._keys = [_wire.CANCELLED_KEY_PREFIX + queue for queue in settings.queues]
        self._worker = worker
        self._loop = loop
        self._client = open_client(settings.redis_url)
        self._loaded_until = time.time() - REMEMBER_SECONDS
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskfleet-control", daemon=True)

    def start(self) -> None:
        """Load what is cancelled already, then listen."""
        with contextlib.suppress(*RETRYABLE):
            # At once, not through the loop: its first turn may already bring a cancelled message.
            self._load(lambda cancel: cancel())
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._stop.set()

    def is_cancelled(self, task_id: str) -> bool:
        """Whether the queue's set still holds the id: a new attempt takes it out. Unknown counts as no."""
        try:
            return any(self._client.zscore(key, task_id) is not None for key in self._keys)
        except RETRYABLE:
            return False

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except RETRYABLE as error:
                logger.debug("control channel lost: %s", error)
            except Exception:  # whatever arrives, the worker goes on listening
                logger.exception("control channel failed")
            self._stop.wait(RETRY_SECONDS)
        self._client.close()

    def _listen(self) -> None:
        with self._client.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe(*self._channels)
            loaded_at = 0.0
            while not self._stop.is_set():
                # Announcements are lost while a connection is down: the set tells what was missed.
                if time.monotonic() - loaded_at > RELOAD_SECONDS:
                    self._load(self._loop.call)
                    loaded_at = time.monotonic()
                message = channel.get_message(timeout=1.0)
                if message is not None and message["type"] == "message":
                    self._handle(message["data"])

    def _load(self, apply: Callable[[_Cancel], None]) -> None:
        now = time.time()
        for key in self._keys:
            for member, at in self._client.zrangebyscore(key, self._loaded_until, "+inf", withscores=True):
                task_id = member.decode() if isinstance(member, bytes) else member
                if hooks.cancellations.get(task_id) != at:
                    hooks.cancellations[task_id] = at
                    apply(_Cancel(self._worker, self._loop, task_id, False))
        # Clocks of API and store differ a little; reading some ids again costs nothing.
        self._loaded_until = now - REMEMBER_SECONDS if now - self._loaded_until > REMEMBER_SECONDS else now - 60
        for task_id, at in list(hooks.cancellations.items()):
            if at < now - REMEMBER_SECONDS:
                hooks.cancellations.pop(task_id, None)

    def _handle(self, data: bytes) -> None:
        try:
            order = json.loads(data)
        except ValueError:
            logger.warning("control message is not JSON")
            return
        if isinstance(order, dict) and order.get("type") == "cancel" and isinstance(order.get("id"), str):
            hooks.cancellations.setdefault(order["id"], time.time())
            self._loop.call(_Cancel(self._worker, self._loop, order["id"], bool(order.get("terminate"))))


class _Cancel:
    """One cancellation, applied in the event loop."""

    def __init__(self, worker: Any, loop: LoopCalls, task_id: str, terminate: bool) -> None:
        self._worker, self._loop, self._id, self._terminate = worker, loop, task_id, terminate

    def __call__(self) -> None:
        worker_state.revoked.add(self._id)
        request = worker_state.requests.get(self._id)
        if request is None:
            return
        if request in worker_state.active_requests:
            if self._terminate:
                self._end(request)
        elif request not in worker_state.reserved_requests:
            # Waits for its time: say so now, not then.
            request.revoked()

    def _end(self, request: Any) -> None:
        try:
            request.terminate(self._worker.pool, signal="TERM")
            timer = threading.Timer(TERMINATE_SECONDS, self._loop.call, (lambda: self._kill(request),))
            timer.daemon = True
            timer.start()
        except NotImplementedError:
            logger.warning("task %s[%s] cannot be terminated: the pool has no such means", request.name, request.id)

    def _kill(self, request: Any) -> None:
        """End a process that is deaf to SIGTERM: its slot would stay taken until the time limit."""
        result = request._apply_result() if request._apply_result is not None else None
        if result is not None and not result.ready():
            logger.warning("task %s[%s] is deaf to SIGTERM and is killed", request.name, request.id)
            self._worker.pool.terminate_job(request.worker_pid, signal.SIGKILL)
