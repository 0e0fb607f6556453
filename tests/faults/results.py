"""What one cell of the kill matrix found, and the JSON files from which docs/reliability.md is generated.

One file per place in `results/`. A run replaces the cells that it ran and leaves the others.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "UNEXPLAINED", "Cell", "Place", "Results", "read_results", "save_cells"]

RESULTS = Path(__file__).parent / "results"
UNEXPLAINED = "unexplained"


class Place(StrEnum):
    """Where a cell was run."""

    LOCAL = "local"  # real servers as processes on one machine
    CLUSTER = "cluster"  # the chart on a one-node Kubernetes


@dataclass(frozen=True)
class Cell:
    """One fault, struck once or several times while tasks were submitted and ran, and the account of every task.

    Everything that must be none for the cell to hold: `lost`, `untold`, `strays`, `unexpected`, unexplained duplicates.
    """

    fault: str  # what struck, as a phrase; unique within its place
    part: str  # what it struck: the table's section, such as "API", "Worker", "Broker", "Network"
    place: Place
    accepted: int  # tasks whose acceptance a client was told
    executed: int  # of these, those whose body noted at least one run
    lost: int  # accepted, and without a record in a final state at the end
    untold: int  # succeeded, although no run was noted
    strays: int  # records of this run that no client was told of, although clients asked again with the same key
    unexpected: int  # final states that the submission does not explain, such as a failed task that cannot fail
    states: Mapping[str, int]  # final states of the accepted tasks
    duplicates: Mapping[str, int] = field(default_factory=dict)  # runs beyond the first, by cause
    interrupted: int = 0  # runs that noted their begin and never their end
    refused: int = 0  # requests without a 2xx: nothing was promised
    recovery_seconds: float | None = None  # from the end of the fault until a task submitted after it has succeeded
    settled_seconds: float | None = None  # from the end of the fault until no accepted task was open
    seconds: float = 0.0  # the whole cell
    seed: int | None = None  # of a random schedule
    note: str = ""  # one plain sentence where a figure needs it

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        unexplained = self.duplicates.get(UNEXPLAINED, 0)
        return not (self.lost or self.untold or self.strays or self.unexpected or unexplained)


@dataclass(frozen=True)
class Results:
    """What one results file holds."""

    command: str  # that made it
    machine: str  # one line about where
    cells: tuple[Cell, ...]


def read_results(place: Place, folder: Path = RESULTS) -> Results | None:
    """The committed results of a place; None if it was never run."""
    path = folder / f"{place}.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    return Results(found["command"], found["machine"], tuple(_cell(each) for each in found["cells"]))


def save_cells(
    place: Place, cells: Iterable[Cell], *, command: str, machine: str, order: Iterable[str], folder: Path = RESULTS
) -> Path:
    """Write the cells of a place; earlier results stay for faults in `order` (all that exist) that did not run now."""
    path = folder / f"{place}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        earlier = read_results(place, folder)
        found = {cell.fault: cell for cell in (*(earlier.cells if earlier else ()), *cells)}
        kept = [asdict(found[fault]) for fault in order if fault in found]
        path.write_text(json.dumps({"command": command, "machine": machine, "cells": kept}, indent=1) + "\n")
    return path


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two runs beside each other each keep what the other wrote."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _cell(found: dict[str, Any]) -> Cell:
    return Cell(**{**found, "place": Place(found["place"])})
