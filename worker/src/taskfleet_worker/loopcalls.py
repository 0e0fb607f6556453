"""Calls from other threads into the worker's event loop, and the loop's sign of life."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from typing import Any, Callable

__all__ = ["LoopCalls"]

logger = logging.getLogger("taskfleet.worker")


class LoopCalls:
    """A queue of callbacks that the event loop runs at once: kombu's own `call_soon` does not wake a sleeping poll."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], Any]] = deque()
        self._pipe: tuple[int, int] | None = None
        self.last_turn = time.monotonic()

    def call(self, callback: Callable[[], Any]) -> None:
        """Run `callback` in the event loop; from any thread."""
        self._calls.append(callback)
        self.wake()

    def wake(self) -> None:
        """Make the event loop turn; from any thread or signal handler."""
        if self._pipe is not None:
            with contextlib.suppress(BlockingIOError, OSError):
                os.write(self._pipe[1], b".")

    def register(self, hub: Any) -> None:
        """Attach to kombu's hub; again after each reconnect, which empties the hub."""
        if self._pipe is None:
            self._pipe = os.pipe()
            for end in self._pipe:
                os.set_blocking(end, False)
        hub.add_reader(self._pipe[0], self._on_readable)

    def _on_readable(self) -> None:
        assert self._pipe is not None
        with contextlib.suppress(BlockingIOError, OSError):
            os.read(self._pipe[0], 4096)
        self.run()

    def run(self) -> None:
        """Run what waits; in the event loop. What is asked for meanwhile comes with the loop's next turn."""
        self.last_turn = time.monotonic()
        for _ in range(len(self._calls)):
            callback = self._calls.popleft()
            try:
                callback()
            except Exception:  # one caller's failure must not end the worker
                logger.exception("call in the event loop failed")
