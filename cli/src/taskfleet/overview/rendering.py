"""The look of `taskfleet top`. Pure: from an Overview to something rich prints."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from taskfleet.models import Queue
from taskfleet.overview.gathering import Overview, get_wait_seconds, get_wanted

__all__ = ["COLUMNS", "build_row", "build_screen"]

COLUMNS = ("QUEUE", "WAITING", "IN HAND", "WAIT", "WORKERS", "BUSY", "IN/S", "OUT/S", "WHY")
NUMBERS = COLUMNS[1:-1]
UNKNOWN = "?"


def build_row(queue: Queue) -> list[str]:
    """The cells of a queue; WORKERS is those that take tasks, of those that are wanted."""
    return [
        queue.name,
        _show(queue.ready),
        _show(queue.unacknowledged),
        _show_wait(get_wait_seconds(queue)),
        f"{_show(queue.consuming)}/{_show(get_wanted(queue))}",
        UNKNOWN if queue.busy is None or queue.slots is None else f"{queue.busy}/{queue.slots}",
        _show_rate(queue.arrivals_per_second),
        _show_rate(queue.completions_per_second),
        _describe_reason(queue),
    ]


def build_screen(overview: Overview, url: str, problem: str | None = None) -> RenderableType:
    """The whole view; `problem` is why these figures are not the newest."""
    parts: list[RenderableType] = [_build_header(overview.queues, url)]
    if problem:
        parts.append(Text(f"▲ {problem}; these figures are older", style="red"))
    table = Table(box=None, pad_edge=False, expand=True, header_style="bold dim")
    for title in COLUMNS:
        number = title in NUMBERS
        table.add_column(title, no_wrap=True, justify="right" if number else "left", overflow="ellipsis")
    table.columns[-1].ratio = 1
    for queue in overview.shown:
        table.add_row(*map(Text, build_row(queue)), style=_choose_style(queue))
    parts += [Text(), table]
    if hidden := len(overview.queues) - len(overview.shown):
        parts.append(Text(f"and {hidden} more", style="dim"))
    return Group(*parts)


def _build_header(queues: Sequence[Queue], url: str) -> Text:
    totals = (
        ("queues", f"{len(queues):,}"),
        ("waiting", _show(_add_up(queue.ready for queue in queues))),
        ("in hand", _show(_add_up(queue.unacknowledged for queue in queues))),
        ("workers", _show(_add_up(queue.workers for queue in queues))),
    )
    text = Text.assemble(("Taskfleet ", "bold"), (url, "dim"))
    for name, value in totals:
        text.append(f"   {name} ", style="dim").append(value, style="bold")
    return text


def _add_up(figures: Iterable[int | None]) -> int | None:
    """A sum of which a part is not known is not known."""
    total = 0
    for figure in figures:
        if figure is None:
            return None
        total += figure
    return total


def _show(figure: int | None) -> str:
    return UNKNOWN if figure is None else f"{figure:,}"


def _show_rate(rate: float | None) -> str:
    return UNKNOWN if rate is None else f"{rate:.1f}"


def _show_wait(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    return "-" if seconds == 0 else f"{seconds:.1f}s" if seconds < 100 else f"{seconds / 60:.0f}m"


def _describe_reason(queue: Queue) -> str:
    if queue.decision is None:
        return "no decision is known"
    reason = str(queue.decision["reason"])
    return reason if queue.decision["acting"] else f"[reported only] {reason}"


def _choose_style(queue: Queue) -> str:
    if queue.ready is None or queue.workers is None:
        return "yellow"
    return "" if queue.ready or queue.unacknowledged or queue.workers else "dim"
