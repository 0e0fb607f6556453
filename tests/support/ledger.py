"""Accounting after a fault: every accepted task against its record and the runs that the tasks noted themselves."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.support.task_api import FINAL_STATES

__all__ = ["Account", "Cause", "Run", "read_ledger", "reconcile"]

SUCCEEDED = frozenset({"succeeded"})
DETAILS = 5  # tasks told in full


class Cause(StrEnum):
    """Why a task's body ran once more."""

    REDELIVERED = "redelivered: the broker had no acknowledgement"
    NEXT_ATTEMPT = "next attempt: the record's lease ended"
    REPUBLISHED = "published again: the first confirm was not seen"
    UNEXPLAINED = "unexplained"


class Ending(StrEnum):
    """How a run ended, as it noted it in its last line."""

    DONE = "done"
    AGAIN = "again"  # it raised on purpose, to be run again
    INTERRUPTED = "interrupted"  # no last line: its process died


@dataclass(frozen=True)
class Run:
    """One execution of a task's body, as it noted it in its first line."""

    id: str
    pid: int
    at: float
    attempt: int
    republished: bool
    redelivered: bool
    retries: int = 0  # Celery's own
    ending: Ending = Ending.INTERRUPTED

    @property
    def cause(self) -> Cause:
        """Why this run can be a second one."""
        if self.redelivered:
            return Cause.REDELIVERED
        if self.attempt > 1:
            return Cause.NEXT_ATTEMPT
        return Cause.REPUBLISHED if self.republished else Cause.UNEXPLAINED

    @property
    def place(self) -> tuple[int, int]:
        """The same for all copies of one message."""
        return self.attempt, self.retries


@dataclass(frozen=True)
class Account:
    """The result: all but `states`, `duplicates` and `interrupted` must be empty, duplicates each have a cause."""

    accepted: int
    executed: int  # accepted tasks with a run
    states: Mapping[str, int]
    lost: tuple[str, ...]  # accepted, and without a record in a final state
    untold: tuple[str, ...]  # succeeded, although no run was noted
    strays: tuple[str, ...]  # records of nobody's
    unexpected: tuple[str, ...]  # in a final state that the submission does not explain
    duplicates: Mapping[Cause, int]  # runs beyond the first of the same message, by cause
    interrupted: int  # runs without an end
    details: tuple[str, ...] = ()  # what is known about tasks that break the promise

    def __str__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        causes = ", ".join(f"{count} {cause.value}" for cause, count in self.duplicates.items()) or "none"
        wrong = f"{len(self.lost)} lost, {len(self.untold)} untold, {len(self.strays)} strays"
        wrong += f", {len(self.unexpected)} unexpected"
        summary = f"{self.accepted} accepted: {states}; {wrong}; duplicate runs: {causes}; {self.interrupted} cut short"
        return "\n  ".join([summary, *self.details])


def read_ledger(path: Path) -> list[Run]:
    """All runs in the order in which they began."""
    if not path.exists():
        return []
    runs: list[Run] = []
    begun: dict[tuple[str, int], int] = {}
    for line in path.read_text().splitlines():
        facts = json.loads(line)
        if (ended := facts.get("ended")) is not None:
            place = begun[ended, facts["pid"]]
            runs[place] = replace(runs[place], ending=Ending.AGAIN if facts["again"] else Ending.DONE)
        else:
            begun[facts["id"], facts["pid"]] = len(runs)
            runs.append(Run(**facts))
    return runs


def reconcile(
    accepted: Iterable[str],
    records: Mapping[str, Mapping[str, Any]],
    runs: Iterable[Run],
    may_end: Mapping[str, AbstractSet[str]] | None = None,
) -> Account:
    """Compare what was promised with what the records say and what the tasks did.

    `may_end`: the final states that a task's submission explains; by default it succeeds.
    """
    ids, noted = list(accepted), list(runs)
    by_task: dict[str, list[Run]] = {}
    for run in noted:
        by_task.setdefault(run.id, []).append(run)
    states = {i: str(records[i]["state"]) if i in records else "unknown" for i in ids}
    lost = tuple(i for i in ids if states[i] not in FINAL_STATES)
    untold = tuple(i for i in ids if states[i] == "succeeded" and i not in by_task)
    strays = tuple(sorted(set(records) - set(ids)))
    expected = may_end or {}
    unexpected = tuple(i for i in ids if states[i] in FINAL_STATES and states[i] not in expected.get(i, SUCCEEDED))
    wrong = [*lost[:DETAILS], *untold[:DETAILS], *strays[:DETAILS], *unexpected[:DETAILS]]
    causes = {i: list(_second_runs(group)) for i, group in by_task.items()}
    wrong += [i for i, found in causes.items() if Cause.UNEXPLAINED in found][:DETAILS]
    return Account(
        accepted=len(ids),
        executed=sum(i in by_task for i in ids),
        states=Counter(states.values()),
        lost=lost,
        untold=untold,
        strays=strays,
        unexpected=unexpected,
        duplicates=Counter(cause for found in causes.values() for cause in found),
        interrupted=sum(run.ending is Ending.INTERRUPTED for run in noted),
        details=tuple(f"{i}: {records.get(i)}, runs {by_task.get(i, [])}" for i in wrong),
    )


def _second_runs(group: list[Run]) -> Iterable[Cause]:
    """The cause of each run that would not have been without a fault: copies, and attempts that nobody asked for."""
    wanted = True
    for _, copies in groupby(sorted(group, key=lambda run: run.place), key=lambda run: run.place):
        first, *others = copies
        if not wanted:
            yield Cause.NEXT_ATTEMPT if first.attempt > 1 else _cause(group, first)
        yield from (_cause(group, run) for run in others)
        wanted = any(run.ending is Ending.AGAIN for run in (first, *others))


def _cause(group: list[Run], run: Run) -> Cause:
    """The cause that any of the task's runs names: the first one noted may itself be the second delivery."""
    if run.cause is not Cause.UNEXPLAINED:
        return run.cause
    return next((other.cause for other in group if other.cause is not Cause.UNEXPLAINED), Cause.UNEXPLAINED)
