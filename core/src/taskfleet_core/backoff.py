"""Pauses between tries. Pure."""

__all__ = ["decide_backoff_seconds"]

MAX_DOUBLINGS = 30  # any bound is reached before; a float overflows after a thousand


def decide_backoff_seconds(failures: int, first_seconds: float, max_seconds: float, chance: float) -> float:
    """How long to wait after that many failures in a row: `first_seconds` at most after the first, twice as long after
    each further one. `chance` in [0, 1) spreads those who failed together over the upper half of that."""
    longest = min(max_seconds, first_seconds * 2.0 ** min(failures - 1, MAX_DOUBLINGS))
    return longest * (0.5 + chance / 2)
