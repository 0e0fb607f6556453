"""queues: what exists, how deep it is, what it runs, and its dead letters."""

from typing import Annotated, Any

import typer

from taskfleet.commands.listing import Listing
from taskfleet.commands.parameters import KeyOption, Output, OutputOption, UrlOption, open_client
from taskfleet.completing import complete_queues
from taskfleet.exit_codes import ExitCode
from taskfleet.models import Queue, TaskSignature
from taskfleet.output import console, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("queues")(queues)


def queues(
    name: Annotated[
        str | None, typer.Argument(help="One queue only.", show_default=False, autocompletion=complete_queues)
    ] = None,
    tasks: Annotated[bool, typer.Option("--tasks", help="The task names that its workers have announced.")] = False,
    redrive: Annotated[bool, typer.Option("--redrive", help="Start a new attempt of all its dead tasks.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Delete its dead tasks.")] = False,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """List queues; with a name also its tasks, redrive and purge of its dead tasks."""
    if sum((tasks, redrive, purge)) > 1:
        raise typer.BadParameter("--tasks, --redrive and --purge exclude one another")
    if name is None and (tasks or redrive or purge):
        raise typer.BadParameter("--tasks, --redrive and --purge need the NAME of a queue")
    with open_client(url, api_key) as client:
        if name is None:
            QUEUES.print(client.queues(), output)
        elif tasks:
            SIGNATURES.print(client.queue_tasks(name), output)
        elif redrive or purge:
            _print_answer(client.redrive(name) if redrive else client.purge(name), output)
        elif output is Output.JSON:
            print_json(client.queue(name))
        else:
            QUEUES.print([client.queue(name)], output)
    return ExitCode.OK


def _build_row(queue: Queue) -> list[Any]:
    slots = None if queue.busy is None or queue.slots is None else f"{queue.busy}/{queue.slots}"
    return [queue.name, queue.ready, queue.unacknowledged, queue.workers, slots]


def _build_signature_row(signature: TaskSignature) -> list[str]:
    schema = signature.parameters or {}
    required = set(schema.get("required", ()))
    names = (name if name in required else f"[{name}]" for name in schema.get("properties", {}))
    return [signature.name, " ".join(names)]


QUEUES = Listing(["QUEUE", "READY", "IN HAND", "WORKERS", "BUSY"], _build_row, empty="No queues.")
SIGNATURES = Listing(["TASK", "PARAMETERS"], _build_signature_row, empty="No worker has announced its tasks yet.")


def _print_answer(answer: dict[str, Any], output: Output) -> None:
    if output is Output.JSON:
        print_json(answer)
        return
    for name, value in answer.items():
        console().print(f"{name}: {value}", markup=False)
