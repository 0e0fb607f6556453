"""Changes that the worker's event loop sees (lost processes, hard time limits, revocations), recorded without waiting.

The loop tries once; when the store is away a thread repeats the change, and the acknowledgement of that task waits.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from typing import Any, Callable

from .store import RETRYABLE, persist

__all__ = ["Reporter", "defer_until_recorded", "is_event_loop", "report_from_loop", "reporter", "set_event_loop"]

logger = logging.getLogger("taskfleet.worker")

Work = Callable[[], bool]

_loop: tuple[int, int] | None = None


def set_event_loop() -> None:
    """Declare the calling thread of this process the worker's event loop."""
    global _loop
    _loop = (threading.get_ident(), os.getpid())


def is_event_loop() -> bool:
    """Whether the caller would block the event loop by waiting."""
    return _loop is not None and _loop[0] == threading.get_ident() and _loop[1] == os.getpid()


class Reporter:
    """Repeats changes in a thread until they are recorded; calls back in the event loop."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Work, str]] = deque()
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Callable[[], Any]]] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        # How a callback gets into the event loop; the boot step sets it.
        self.call_in_loop: Callable[[Callable[[], Any]], Any] = lambda callback: callback()

    @property
    def is_idle(self) -> bool:
        """Whether everything reported is recorded."""
        return not self._waiting

    def report(self, work: Work, task_id: str) -> bool:
        """Try once, unless earlier changes wait; returns whether the change was new (True when not known yet)."""
        if not self._waiting:
            try:
                return work()
            except RETRYABLE as error:
                logger.warning("state of task %s is not recorded yet, repeating: %s", task_id, error)
        with self._lock:
            self._waiting.setdefault(task_id, [])
            self._queue.append((work, task_id))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="taskfleet-reporter", daemon=True)
            self._thread.start()
        self._wake.set()
        return True

    def defer(self, task_id: str, callback: Callable[[], Any]) -> bool:
        """Keep `callback` until the task's changes are recorded; False when there is nothing to wait for."""
        if not self._waiting:
            return False
        with self._lock:
            if task_id not in self._waiting:
                return False
            self._waiting[task_id].append(callback)
            return True

    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._queue:
                work, task_id = self._queue.popleft()
                persist(work, task_id)
                with self._lock:
                    if all(other != task_id for _, other in self._queue):
                        for callback in self._waiting.pop(task_id, []):
                            self.call_in_loop(callback)


reporter = Reporter()


def report_from_loop(work: Work, task_id: str) -> bool:
    """Record a change seen by the event loop, now or later."""
    return reporter.report(work, task_id)


def defer_until_recorded(task_id: str, callback: Callable[[], Any]) -> bool:
    """Whether `callback` will be called later, because a change of the task is not recorded yet."""
    return reporter.defer(task_id, callback)
