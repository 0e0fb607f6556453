"""The outcome of one check."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Verdict", "name_some"]


class Verdict(StrEnum):
    """How a check ended. Only PROBLEM makes the exit code say so."""

    OK = "ok"
    NOTE = "note"  # worth knowing, nothing to repair for certain
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was seen, and for anything but OK what to do about it."""

    check: str
    verdict: Verdict
    detail: str
    fix: str | None = None


def name_some(names: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
