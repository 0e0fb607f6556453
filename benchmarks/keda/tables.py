"""From rounds to Markdown. Pure but for reading and appending the file of rounds."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["TABLES", "Column", "Round", "append_round", "build_tables", "find_misses", "read_rounds"]


@dataclass(frozen=True)
class Round:
    """One round of a case against one side; `load` is the machine's load average over the last minute before it."""

    case: str
    peer: str
    title: str
    number: int
    load: float
    values: dict[str, float | None]


@dataclass(frozen=True)
class Column:
    """One figure of a case; the bound is Taskfleet's."""

    key: str
    heading: str
    digits: int = 1
    at_most: float | None = None


TABLES: dict[str, tuple[str, tuple[Column, ...]]] = {
    "burst": (
        "Burst of 200 x 0.5 s on a sleeping queue, at most 10 pods of 2 slots",
        (
            Column("first_scale", "first scale-up, s", 2, at_most=0.5),
            Column("first_start", "first task starts, s"),
            Column("all_done", "all done, s", at_most=12),
            Column("peak", "most pods", 0),
            Column("gone", "pods gone after the last task, s"),
            Column("pod_seconds", "pod-seconds", 0, at_most=200),
        ),
    ),
    "wave": (
        "Square wave, 8 tasks/s of 0.5 s for 20 s, none for 20 s, four times",
        (
            Column("late", "tasks waiting > 5 s, %", at_most=5),
            Column("pod_seconds", "pod-seconds in the 160 s", 0, at_most=640),
            Column("peak", "most pods", 0),
        ),
    ),
    "scale-in": (
        "Scale-in with four running tasks of 120 s, grace period 30 s",
        (
            Column("idle_pods", "idle pods", 0),
            Column("idle_gone", "idle pods gone after, s", at_most=15),
            Column("interrupted", "runs cut off", 0, at_most=0),
            Column("lost_seconds", "work lost, s", 0, at_most=0),
            Column("finished", "of 4 tasks finished after 200 s", 0),
        ),
    ),
    "idle": (
        "100 new queues with nothing to do",
        (
            Column("ready", "all Ready after, s"),
            Column("connections", "connections at the broker", 0),
            Column("requests", "HTTP requests/s at the broker", 1),
            Column("cpu", "operator's CPU, % of a core"),
            Column("memory", "operator's memory, MiB", 0),
        ),
    ),
}


def append_round(path: Path, done: Round) -> None:
    """Keep a round: one JSON object a line."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(done)) + "\n")


def read_rounds(path: Path) -> list[Round]:
    """All rounds of a file, none when there is no file."""
    if not path.exists():
        return []
    return [Round(**json.loads(line)) for line in path.read_text().splitlines() if line]


def build_tables(rounds: Sequence[Round]) -> str:
    """A table per case that was measured: medians, with the number of rounds and the load beside each."""
    parts = []
    for case, (title, columns) in TABLES.items():
        done = [item for item in rounds if item.case == case]
        if done:
            parts.append(f"**{title}**\n\n{_build_table(done, columns)}")
    return "\n\n".join(parts)


def find_misses(rounds: Sequence[Round]) -> list[str]:
    """Taskfleet's bounds that its medians do not keep."""
    missed = []
    for case, (_, columns) in TABLES.items():
        own = [item for item in rounds if item.case == case and item.peer == "taskfleet"]
        for column in columns:
            median = _find_median(own, column)
            if own and column.at_most is not None and (median is None or median > column.at_most):
                missed.append(f"{case}: {column.heading}")
    return missed


def _build_table(rounds: Sequence[Round], columns: Sequence[Column]) -> str:
    lines = ["| | " + " | ".join(column.heading for column in columns) + " | rounds | load average |"]
    lines.append("|---|" + "--:|" * (len(columns) + 2))
    for peer, title in {item.peer: item.title for item in rounds}.items():
        own = [item for item in rounds if item.peer == peer]
        cells = [_build_cell(own, column) for column in columns]
        loads = [item.load for item in own]
        lines.append(f"| {title} | {' | '.join(cells)} | {len(own)} | {min(loads):.1f} - {max(loads):.1f} |")
    bounds = ["" if column.at_most is None else f"<= {column.at_most:,g}" for column in columns]
    if any(bounds):
        lines.append(f"| *Taskfleet's bound* | {' | '.join(bounds)} | | |")
    return "\n".join(lines)


def _build_cell(rounds: Sequence[Round], column: Column) -> str:
    """Median and spread; a dash where nothing was measured; bold where Taskfleet misses its bound."""
    values = [value for item in rounds if (value := item.values.get(column.key)) is not None]
    if not values:
        return "-"
    median = statistics.median(values)
    text = f"{median:,.{column.digits}f}"
    if len(values) > 1:
        text += f" ({min(values):,.{column.digits}f} - {max(values):,.{column.digits}f})"
    is_own = rounds[0].peer == "taskfleet"
    return f"**{text}**" if is_own and column.at_most is not None and median > column.at_most else text


def _find_median(rounds: Sequence[Round], column: Column) -> float | None:
    values = [value for item in rounds if (value := item.values.get(column.key)) is not None]
    return statistics.median(values) if values else None
