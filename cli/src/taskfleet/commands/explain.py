"""explain: why a queue has as many workers as it has."""

from datetime import datetime
from typing import Annotated

import typer

from taskfleet.commands.parameters import KeyOption, Output, OutputOption, UrlOption, open_client
from taskfleet.completing import complete_queues
from taskfleet.exit_codes import ExitCode
from taskfleet.models import Queue
from taskfleet.output import console, describe_age, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    name: Annotated[str, typer.Argument(help="The queue.", show_default=False, autocompletion=complete_queues)],
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Why a queue has as many workers as it has: what is seen now, and the steps of the last decision."""
    with open_client(url, api_key) as client:
        answer = client.queue_scaling(name)
        figures = client.queue(name) if output is Output.TABLE else None
    if output is Output.JSON:
        print_json(answer)
        return ExitCode.OK
    if figures is not None:
        console().print(f"{name}: {_describe_figures(figures)}", markup=False)
    decision = answer["decision"]
    if decision is None:
        console().print("Nothing has been decided yet: no operator or local mode serves this queue.", markup=False)
        return ExitCode.OK
    age = describe_age(datetime.fromisoformat(decision["decided_at"]))
    console().print(f"decided {age} ago ({decision['cause']}):", markup=False)
    for step in answer["steps"]:
        console().print(f"  {step}", markup=False)
    return ExitCode.OK


def _describe_figures(queue: Queue) -> str:
    def show(value: int | None) -> str:
        return "an unknown number" if value is None else str(value)

    workers = f"workers: {show(queue.workers)}, with {show(queue.busy)} of {show(queue.slots)} slots busy"
    return f"now {show(queue.ready)} waiting, {show(queue.unacknowledged)} in hand; {workers}"
