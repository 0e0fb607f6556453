"""Supervised loops: a crash is logged, backed off and restarted; each loop's health can be read at any time."""

from dataclasses import dataclass

__all__ = ["LoopHealth"]


@dataclass(frozen=True, slots=True)
class LoopHealth:
    """How one background loop is doing; times are seconds ago."""

    name: str
    healthy: bool
    consecutive_failures: int
    last_error: str | None  # type and short text, never a URL
    seconds_since_success: float | None
