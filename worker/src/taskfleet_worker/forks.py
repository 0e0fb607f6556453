"""What a task leaves behind when it forks: a copy of the pool process that must not speak for it.

A child that comes back out of the task's code would report the task a second time, announce the death of its parent's
process, and read its parent's messages.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from billiard import pool as billiard_pool

__all__ = ["end_if_forked", "guard_pool", "let_forks_end"]

logger = logging.getLogger("taskfleet.worker")


def end_if_forked(pid: int, task_id: str) -> None:
    """End this process, without clean-up, unless it is the one that began the task."""
    if os.getpid() != pid:
        logger.warning("task %s: a process that it forked came back out of the task and is ended", task_id)
        os._exit(0)


def let_forks_end(handler: Any) -> None:
    """Let SIGTERM end what tasks fork in the worker's own process (threads, gevent, solo): with the worker's handler a
    process of `multiprocessing` would be deaf to it, and the task that ends its pool would wait for ever."""

    def forget_handler() -> None:
        if signal.getsignal(signal.SIGTERM) == handler:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    os.register_at_fork(after_in_child=forget_handler)


def guard_pool() -> None:
    """Let no process of a pool answer but the one that the pool started; once per process."""
    original = billiard_pool.Worker.workloop
    if hasattr(original, "taskfleet"):
        return

    def workloop(self: Any, *args: Any, **kwargs: Any) -> Any:
        pid, put = os.getpid(), self.outq.put

        def put_own(message: Any) -> Any:
            if os.getpid() != pid:
                os._exit(0)
            return put(message)

        self.outq.put = put_own
        return original(self, *args, **kwargs)

    workloop.taskfleet = True  # type: ignore[attr-defined]
    billiard_pool.Worker.workloop = workloop
