"""history: how a queue stood over time, and when another number of workers was wanted."""

from datetime import datetime
from typing import Annotated, Any

import typer

from taskfleet.commands.parameters import KeyOption, Output, OutputOption, UrlOption, open_client, parse_past
from taskfleet.completing import complete_queues
from taskfleet.exit_codes import ExitCode
from taskfleet.models import HistoryPoint, QueueHistory
from taskfleet.output import console, print_json, print_rows

__all__ = ["register"]

COLUMNS = ["TIME", "WAITING", "RUNNING", "OLDEST", "WORKERS", "IN/S", "FINISHED", "FAILED", "WAIT P50", "WAIT P95"]
DECISION_COLUMNS = ["TIME", "WORKERS", "WHY"]
NONE = "-"  # in place of a duration where no task had one

SinceOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="From then on: a time, or how long ago, such as 90m, 6h or 2d; default 1h."),
]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Only before then; default now.")]
StepOption = Annotated[
    int | None,
    typer.Option(
        metavar="SECONDS",
        help="Length of the intervals: 10, 60 or 600; default the shortest that are kept so long.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("history")(history)


def history(
    name: Annotated[str, typer.Argument(help="The queue.", show_default=False, autocompletion=complete_queues)],
    since: SinceOption = None,
    until: UntilOption = None,
    step_seconds: StepOption = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """How a queue stood, interval by interval, and each change of the number of workers with its reason.

    FINISHED and FAILED are attempts that ended in the interval, WORKERS those that took tasks, of those that were
    wanted. An interval in which nobody looked is not there; '?' is not known.
    """
    begin, end = parse_past(since, "--since"), parse_past(until, "--until")
    with open_client(url, api_key) as client:
        found = client.queue_history(name, since=begin, until=end, step_seconds=step_seconds)
    if output is Output.JSON:
        print_json(found)
    else:
        _print_tables(found)
    return ExitCode.OK


def _print_tables(found: QueueHistory) -> None:
    console().print(f"{found.queue}: intervals of {found.step_seconds} s", markup=False)
    empty = "Nothing is kept of that time: TASKFLEET_API_HISTORY_DAYS says how long the API keeps it."
    print_rows(COLUMNS, map(_build_row, found.points), empty=empty)
    if found.decisions:
        console().print()
        changes = ([_show_time(c.at), f"{c.before} -> {c.replicas}", c.reason or NONE] for c in found.decisions)
        print_rows(DECISION_COLUMNS, changes, empty="")


def _build_row(point: HistoryPoint) -> list[Any]:
    return [
        _show_time(point.at),
        point.ready,
        None if point.running is None else f"{point.running:g}",
        _show_seconds(point.oldest_wait_seconds),
        "/".join("?" if number is None else str(number) for number in (point.workers, point.desired)),
        None if point.arrivals_per_second is None else f"{point.arrivals_per_second:.1f}",
        point.finished,
        point.failed,
        _show_seconds(point.wait_p50_seconds),
        _show_seconds(point.wait_p95_seconds),
    ]


def _show_time(moment: datetime) -> str:
    """By this machine's clock, as the options take it."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _show_seconds(seconds: float | None) -> str:
    return NONE if seconds is None else f"{seconds:.2f}s"
