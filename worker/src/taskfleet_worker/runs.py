"""What a process knows about the tasks it runs right now, and the watcher that announces the long ones as running.

Lives in pool processes (prefork) or in the worker itself (threads, gevent, solo).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import Any, Callable

from .events import Identity

__all__ = ["Run", "Watcher", "current_run", "end_run", "set_current_run"]

logger = logging.getLogger("taskfleet.worker")

WATCH_STEP_SECONDS = 0.02
REPEAT_SECONDS = 1.0


class Run:
    """One execution of one delivery."""

    __slots__ = (
        "due",
        "ended",
        "identity",
        "last_progress",
        "manual",
        "pid",
        "progress",
        "progress_streamed_at",
        "request",
        "started",
        "started_at",
        "task",
    )

    def __init__(self, task: Any, request: Any, identity: Identity, due: float) -> None:
        self.task = task
        self.request = request
        self.identity = identity
        self.pid = os.getpid()
        self.started = time.monotonic()
        self.started_at = time.time()
        self.due = self.started + due
        # Set once a state behind `running` is on its way, or the run is over without one.
        self.ended = False
        # A ready state that the task itself stored by update_state: counts only if the task then raises Ignore.
        self.manual: tuple[str, Any] | None = None
        self.progress = ""
        self.last_progress = 0
        self.progress_streamed_at = 0.0


_local = threading.local()


def set_current_run(run: Run) -> None:
    """Remember the run of this thread or greenlet."""
    _local.run = run


def current_run() -> Run | None:
    """The run of this thread or greenlet."""
    return getattr(_local, "run", None)


def end_run() -> Run | None:
    """Forget the run of this thread or greenlet; returns it."""
    run: Run | None = getattr(_local, "run", None)
    if run is not None:
        _local.run = None
    return run


class Watcher:
    """Calls `announce(run)` for each run that lasts longer than its due time, from one thread per process.

    While short tasks stream through, the thread wakes at most 50 times a second; without tasks it sleeps.
    """

    def __init__(self, announce: Callable[[Run], None]) -> None:
        self._announce = announce
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._runs: deque[Run] = deque()
        self._parked = True
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, run: Run) -> None:
        """Watch a run; cheap, called once per task."""
        if self._pid != os.getpid():
            self._reset()
        self._runs.append(run)
        if self._parked:
            self._parked = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="taskfleet-watcher", daemon=True)
                self._thread.start()
            self._wake.set()

    def _watch(self) -> None:
        runs = self._runs
        while True:
            while runs:
                delay = runs[0].due - time.monotonic()
                if delay > 0:
                    time.sleep(max(delay, WATCH_STEP_SECONDS))
                    continue
                run = runs.popleft()
                if not run.ended:
                    self._try(run)
            self._wake.clear()
            self._parked = True
            # A run added between the check and the flag found the watcher not parked: look once more.
            if not runs:
                self._wake.wait()
            self._parked = False

    def _try(self, run: Run) -> None:
        try:
            self._announce(run)
        except Exception as error:  # the store is away, or foreign values raise: the thread must live
            logger.warning("could not announce task %s as running yet: %s", run.identity.id, error)
            run.due = time.monotonic() + REPEAT_SECONDS
            self._runs.append(run)
