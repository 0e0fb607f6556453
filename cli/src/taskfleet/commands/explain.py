"""explain: why a queue has as many workers as it has."""

from datetime import datetime
from typing import Annotated

import typer

from taskfleet.client import Client
from taskfleet.commands.parameters import CLIENT_RETRIES, KeyOption, Output, OutputOption, UrlOption
from taskfleet.exit_codes import ExitCode
from taskfleet.output import console, describe_age, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    name: Annotated[str, typer.Argument(help="The queue.", show_default=False)],
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Why a queue has as many workers as it has: what was seen and the steps of the last decision."""
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        answer = client.queue_scaling(name)
    if output is Output.JSON:
        print_json(answer)
        return ExitCode.OK
    decision = answer["decision"]
    if decision is None:
        console().print(f"Nothing has been decided about {name} yet.", markup=False)
        return ExitCode.OK
    age = describe_age(datetime.fromisoformat(decision["decided_at"]))
    console().print(f"{name}, decided {age} ago ({decision['cause']}):", markup=False)
    for step in answer["steps"]:
        console().print(f"  {step}", markup=False)
    return ExitCode.OK
