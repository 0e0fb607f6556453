"""The progress bars of `taskfleet wait` and `watch`, only where they go to a terminal."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from taskfleet.models import Event
from taskfleet.output import STYLES, error_console

__all__ = ["WaitView", "read_share"]

MOST_BARS = 12


def read_share(progress: Any) -> float | None:
    """How much is done, 0 to 1, of a progress report in one of the usual forms; None when it is in no known one.

    {"current": 3, "total": 10}, {"done": ..., "total": ...}, {"percent": 30}, or a plain number from 0 to 1.
    """
    if isinstance(progress, Mapping):
        total, percent = _read_number(progress.get("total")), _read_number(progress.get("percent"))
        if percent is not None:
            return _bound(percent / 100)
        done = (_read_number(progress.get(name)) for name in ("current", "done", "completed"))
        part = next((number for number in done if number is not None), None)
        return _bound(part / total) if part is not None and total else None
    share = _read_number(progress)
    return _bound(share) if share is not None and share <= 1 else None


def _read_number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _bound(share: float) -> float:
    return min(1.0, max(0.0, share))


class WaitView:
    """One bar for each task, or one for all when they are many. A context manager."""

    def __init__(self, ids: Sequence[str], console: Console | None = None) -> None:
        """`console` is standard error unless given; what is printed to it meanwhile stands above the bars."""
        self._console = console or error_console()
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[state]}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._open = set(ids)
        self._bars: dict[str, TaskID] = {}
        self._all: TaskID | None = None
        if len(ids) > MOST_BARS:
            self._all = self._progress.add_task(f"{len(ids)} tasks", total=len(ids), state="")
        else:
            for task_id in dict.fromkeys(ids):
                self._bars[task_id] = self._progress.add_task(task_id, total=None, state="waiting")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def is_shown(self) -> bool:
        """Whether there are bars to look at."""
        return self._console.is_terminal

    def show(self, event: Event) -> None:
        """Take an event into account."""
        if self._all is not None:
            if event.is_final and event.id in self._open:
                self._open.discard(event.id)
                self._progress.advance(self._all)
            return
        bar = self._bars.get(event.id)
        if bar is None:
            return
        if event.is_final:
            self._progress.update(bar, total=1.0, completed=1.0)
        elif (share := read_share(event.progress)) is not None:
            self._progress.update(bar, total=1.0, completed=share)
        style = STYLES.get(event.state)
        self._progress.update(bar, state=f"[{style}]{event.state}[/]" if style else str(event.state))
