"""What a step of the machine's clock must not do: keep a task that waits for its moment waiting for another hour.

Celery turns the moment (`eta`) of a message into one of a clock that never steps, once, when the message arrives. Read
with a wrong clock, it stays wrong after that clock was set right, and such a task keeps a slot of the prefetch window.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Callable

__all__ = ["StepWatch"]

logger = logging.getLogger("taskfleet.worker")

STEP_SECONDS = 2.0  # a difference between two looks that slewing a clock does not make


class StepWatch:
    """Compares two clocks at each look, and moves what waits by what one of them was stepped."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()

    def look(self, timer: Any) -> None:
        """One look; in the event loop's thread. `timer` is the consumer's."""
        offset = self._wall() - self._monotonic()
        step, self._offset = offset - self._offset, offset
        if abs(step) >= STEP_SECONDS:
            moved = _move(timer, -step)
            logger.warning("the clock was stepped by %.1f s: %d waiting tasks follow it", step, moved)


def _move(timer: Any, seconds: float) -> int:
    """Move the entries of messages that wait for their moment; everything else is an interval and stays."""
    moved = 0
    for due, priority, entry in list(getattr(timer, "queue", ())):
        request: Any = entry.args[0] if entry.args else None
        if entry.canceled or getattr(request, "eta", None) is None:
            continue
        entry.cancel()
        again = timer.call_at(due + seconds, entry.fun, entry.args, priority=priority)
        if hasattr(request, "_eta_timer_entry"):
            request._eta_timer_entry = again  # a revoke cancels this one
        moved += 1
    return moved
