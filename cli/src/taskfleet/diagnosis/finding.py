"""The outcome of one check."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Verdict"]


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
