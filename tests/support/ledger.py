"""Accounting after a kill: every accepted task against its record and the runs that the tasks noted themselves."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

__all__ = ["Account", "Cause", "Run", "read_ledger", "reconcile"]

FINAL = frozenset({"succeeded", "failed", "cancelled", "expired", "dead"})


class Cause(StrEnum):
    """Why a task's body ran once more."""

    REDELIVERED = "redelivered: the broker had no acknowledgement"
    NEXT_ATTEMPT = "next attempt: the record's lease ended"
    REPUBLISHED = "published again: the first confirm was not seen"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Run:
    """One execution of a task's body, as it noted it in its first line."""

    id: str
    pid: int
    at: float
    attempt: int
    republished: bool
    redelivered: bool

    @property
    def cause(self) -> Cause:
        """Why this run can be a second one."""
        if self.redelivered:
            return Cause.REDELIVERED
        if self.attempt > 1:
            return Cause.NEXT_ATTEMPT
        return Cause.REPUBLISHED if self.republished else Cause.UNEXPLAINED


@dataclass(frozen=True)
class Account:
    """The result: `lost` and `untold` must be empty, duplicates each have a cause."""

    accepted: int
    states: Mapping[str, int]
    lost: tuple[str, ...]  # accepted, and without a record in a final state
    untold: tuple[str, ...]  # succeeded, although no run was noted
    duplicates: Mapping[Cause, int]  # runs beyond the first, by cause
    details: tuple[str, ...] = ()  # what is known about each lost task

    @property
    def duplicate_runs(self) -> int:
        """All runs beyond the first of their task."""
        return sum(self.duplicates.values())

    def __str__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        causes = ", ".join(f"{count} {cause.value}" for cause, count in self.duplicates.items()) or "none"
        summary = f"{self.accepted} accepted: {states}; {len(self.lost)} lost; duplicate runs: {causes}"
        return "\n  ".join([summary, *self.details])


def read_ledger(path: Path) -> list[Run]:
    """All runs in the order in which they were noted."""
    if not path.exists():
        return []
    return [Run(**json.loads(line)) for line in path.read_text().splitlines()]


def reconcile(accepted: Iterable[str], records: Mapping[str, Mapping[str, Any]], runs: Iterable[Run]) -> Account:
    """Compare what was promised with what the records say and what the tasks did."""
    ids = list(accepted)
    by_task: dict[str, list[Run]] = {}
    for run in runs:
        by_task.setdefault(run.id, []).append(run)
    states = Counter(str(records[task_id]["state"]) if task_id in records else "unknown" for task_id in ids)
    duplicates = Counter(_cause(group, run) for group in by_task.values() for run in group[1:])
    lost = tuple(i for i in ids if i not in records or records[i]["state"] not in FINAL)
    return Account(
        accepted=len(ids),
        states=states,
        lost=lost,
        untold=tuple(i for i in ids if i in records and records[i]["state"] == "succeeded" and i not in by_task),
        duplicates=duplicates,
        details=tuple(f"{i}: {records.get(i)}, runs {by_task.get(i, [])}" for i in lost[:5]),
    )


def _cause(group: list[Run], run: Run) -> Cause:
    """The cause that any of the task's runs names: the first one noted may itself be the second delivery."""
    if run.cause is not Cause.UNEXPLAINED:
        return run.cause
    return next((other.cause for other in group if other.cause is not Cause.UNEXPLAINED), Cause.UNEXPLAINED)
