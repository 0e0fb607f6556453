"""What happened, for people: kept for the live view, or written as plain lines where there is no terminal."""

import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import structlog

__all__ = ["Entry", "Journal"]

KEPT = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    at: float
    level: str
    event: str
    fields: dict[str, Any]


class Journal:
    """Takes entries with a stable event name and fields; `plain` also writes each as a line on standard output."""

    def __init__(self, *, plain: bool) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self._plain = plain
        self._logger: Any = structlog.wrap_logger(
            structlog.PrintLogger(sys.stdout),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
                structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=24),
            ],
        )

    def info(self, event: str, **fields: Any) -> None:
        """Something that is as it should be."""
        self._add("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that a person may have to look at."""
        self._add("warning", event, fields)

    def _add(self, level: str, event: str, fields: dict[str, Any]) -> None:
        self.entries.append(Entry(time.time(), level, event, fields))
        if self._plain:
            getattr(self._logger, level)(event, **fields)
            sys.stdout.flush()
