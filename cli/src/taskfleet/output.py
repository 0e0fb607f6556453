"""Results on standard output: JSON for scripts, tables for people. Messages and progress go to standard error."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from taskfleet.models import Event, Task
from taskfleet_core.states import TaskState

__all__ = [
    "STYLES",
    "SafeConsole",
    "console",
    "describe_age",
    "error_console",
    "print_json",
    "print_rows",
    "print_task",
    "printable",
    "state_text",
]

STYLES = {
    TaskState.SUCCEEDED: "green",
    TaskState.RUNNING: "cyan",
    TaskState.RETRYING: "yellow",
    TaskState.FAILED: "red",
    TaskState.DEAD: "bold red",
    TaskState.CANCELLED: "magenta",
    TaskState.EXPIRED: "magenta",
}
UNKNOWN = "?"
WIDE_COLUMNS = 1000


# All but line breaks and tabs: what begins orders to a terminal (C0, C1), and what turns the direction of text round.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with control characters spelled out: names, arguments and errors are other people's."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


class SafeConsole(Console):
    """A console on which a task's error moves no cursor, names no window and fills no clipboard."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is to be written, its text printable; rich's own orders to the terminal stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def console() -> Console:
    """Standard output as it is now."""
    return SafeConsole(file=sys.stdout, highlight=False, soft_wrap=True)


def wide_console() -> Console:
    """Standard output for tables: a row is never cut, the terminal wraps what is too long for it."""
    return SafeConsole(file=sys.stdout, highlight=False, width=WIDE_COLUMNS)


def error_console() -> Console:
    """Standard error as it is now."""
    return SafeConsole(file=sys.stderr, highlight=False)


def to_json(value: Any) -> Any:
    """The value as the API would write it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def print_json(value: Any, *, compact: bool = False) -> None:
    """One JSON document; `compact` writes it as one line."""
    text = json.dumps(to_json(value), ensure_ascii=False, indent=None if compact else 2)
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """A plain table; `empty` is said when there are no rows."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(
            *(cell if isinstance(cell, Text) else Text(UNKNOWN if cell is None else str(cell)) for cell in row)
        )
    if table.row_count:
        _print_stripped(table)
    else:
        error_console().print(empty)


def _print_stripped(table: Table) -> None:
    """Without the blanks that fill up the last column."""
    wide = wide_console()
    with wide.capture() as captured:
        wide.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def state_text(state: TaskState) -> Text:
    """A state in its colour."""
    return Text(str(state), style=STYLES.get(state, ""))


def describe_age(moment: datetime | None) -> str:
    """How long ago, in the largest fitting unit; in the future with a plus sign."""
    if moment is None:
        return "-"
    seconds = (datetime.now(UTC) - moment).total_seconds()
    sign, seconds = ("+", -seconds) if seconds < 0 else ("", seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{sign}{seconds / size:.0f}{unit}"
    return f"{sign}{seconds:.0f}s"


def print_task(task: Task) -> None:
    """One task, field by field; what is not known or not set is left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _describe_task(task):
        table.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    _print_stripped(table)
    if task.error and task.error.traceback:
        console().print(Text(task.error.traceback.rstrip(), style="dim"))


def _describe_task(task: Task) -> Iterable[tuple[str, Any]]:
    yield "id", task.id
    yield "state", state_text(task.state)
    yield "queue", task.queue
    yield "task", task.task
    if task.args or task.kwargs:
        words = [compact(value) for value in task.args or []]
        words += [f"{name}={compact(value)}" for name, value in (task.kwargs or {}).items()]
        yield "arguments", " ".join(words)
    if task.metadata:
        yield "metadata", compact(task.metadata)
    if task.attempt > 1 or task.retries:
        yield "attempt", f"{task.attempt} (retries {task.retries})"
    yield from (
        (name.removesuffix("_at"), f"{moment:%Y-%m-%d %H:%M:%S} ({describe_age(moment)})")
        for name in ("created_at", "due_at", "started_at", "finished_at")
        if (moment := getattr(task, name)) is not None
    )
    if task.runtime_seconds is not None:
        yield "run time", f"{task.runtime_seconds:.3f} s"
    if task.worker:
        yield "worker", task.worker
    if task.progress is not None and not task.is_final:
        yield "progress", compact(task.progress)
    if task.succeeded:
        yield "result", compact(task.result)
    if task.callback:
        error = f": {task.callback.last_error}" if task.callback.last_error else ""
        yield "callback", f"{task.callback.state}, {task.callback.tries} calls{error}"
    if task.error:
        yield "error", Text(f"{task.error.type}: {task.error.message}", style="red")


def describe_event(event: Event) -> Text:
    """One line for an event of a task."""
    moment = datetime.fromtimestamp(event.at) if event.at else datetime.now()
    line = Text(f"{moment:%H:%M:%S}  ", style="dim")
    if event.kind == "progress":
        return line.append("progress  ", style="blue").append(compact(event.progress), style="default")
    line.append(f"{event.state:<10}", style=STYLES.get(event.state, "default"))
    parts = [f"attempt {event.attempt}" if event.attempt > 1 else "", f"retry {event.retries}" if event.retries else ""]
    parts += [f"on {event.worker}" if event.worker else ""]
    if event.error:
        parts.append(f"{event.error.type}: {event.error.message}")
    elif event.state is TaskState.SUCCEEDED:
        parts.append(compact(event.result))
    return line.append(", ".join(part for part in parts if part), style="default")


def compact(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
