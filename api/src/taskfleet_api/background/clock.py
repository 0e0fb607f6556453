"""The time of day as background services ask for it, so that tests can set it."""

from collections.abc import Callable
from datetime import UTC, datetime

__all__ = ["Clock", "read_clock"]

Clock = Callable[[], datetime]


def read_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)
