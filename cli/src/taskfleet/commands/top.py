"""top: a live view of all queues."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable
from typing import Annotated

import typer
from rich.live import Live

from taskfleet.async_client import AsyncClient
from taskfleet.commands.parameters import KeyOption, Output, OutputOption, UrlOption
from taskfleet.completing import complete_queues
from taskfleet.errors import UnavailableError
from taskfleet.exit_codes import ExitCode
from taskfleet.output import console, print_json, print_rows
from taskfleet.overview.gathering import Overview, fetch_overview
from taskfleet.overview.rendering import COLUMNS, build_row, build_screen

__all__ = ["register"]

OTHER_LINES = 6  # of the screen: header, problem, blank, table header, "and n more", cursor
ANSWER_SECONDS = 10.0

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[QUEUE]...", help="Only these; default: all.", autocompletion=complete_queues),
]
OnceOption = Annotated[bool, typer.Option("--once", help="Print one table and end; so it does without a terminal.")]
IntervalOption = Annotated[float, typer.Option(min=0.5, metavar="SECONDS", help="Time between two looks.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, help="Most queues, busiest first; default: what fits; once: all.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("top")(top)


def top(
    names: NamesArgument = None,
    once: OnceOption = False,
    interval: IntervalOption = 2.0,
    limit: LimitOption = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Watch the queues: what waits and for how long, workers ready of wanted with the reason, throughput.

    WAITING messages wait, IN HAND have workers; WAIT is expected for the last of them. '?' is not known. Ctrl-C ends.
    """
    chosen = names or []
    if once or output is Output.JSON or not sys.stdout.isatty():
        overview = asyncio.run(_look_once(chosen, limit, url, api_key))
        if output is Output.JSON:
            print_json(overview.build_document())
        else:
            print_rows(COLUMNS, map(build_row, overview.shown), empty="No queues.")
        return ExitCode.OK
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        asyncio.run(_look_on(chosen, limit, interval, url, api_key))
    return ExitCode.OK


async def _look_once(names: list[str], limit: int | None, url: str | None, api_key: str | None) -> Overview:
    async with AsyncClient(url, api_key=api_key, retries=2) as client:
        return await fetch_overview(client, names, limit)


async def _look_on(names: list[str], limit: int | None, interval: float, url: str | None, api_key: str | None) -> None:
    """Until Ctrl-C. An API that is away for a while is told, and asked again."""
    screen = console()
    async with AsyncClient(url, api_key=api_key, retries=0, timeout_seconds=ANSWER_SECONDS) as client:

        def fetch() -> Awaitable[Overview]:
            return fetch_overview(client, names, limit or max(1, screen.height - OTHER_LINES))

        overview, problem = await fetch(), None
        with Live(console=screen, screen=True, auto_refresh=False) as live:
            while True:
                live.update(build_screen(overview, client.url, problem), refresh=True)
                await asyncio.sleep(interval)
                try:
                    overview, problem = await fetch(), None
                except UnavailableError as error:
                    problem = str(error)
