"""queues: what exists, how deep it is, what it runs, and its dead letters."""

from typing import Annotated, Any

import typer

from taskfleet.client import Client
from taskfleet.commands.parameters import CLIENT_RETRIES, KeyOption, Output, OutputOption, UrlOption
from taskfleet.exit_codes import ExitCode
from taskfleet.models import Queue, TaskSignature
from taskfleet.output import console, print_json, print_rows

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("queues")(queues)


def queues(
    name: Annotated[str | None, typer.Argument(help="One queue only.", show_default=False)] = None,
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
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        if name is None:
            _print_queues(client.queues(), output)
        elif tasks:
            _print_signatures(client.queue_tasks(name), output)
        elif redrive or purge:
            _print_answer(client.redrive(name) if redrive else client.purge(name), output)
        elif output is Output.JSON:
            print_json(client.queue(name))
        else:
            _print_queues([client.queue(name)], output)
    return ExitCode.OK


def _print_queues(found: Any, output: Output) -> None:
    if output is Output.JSON:
        print_json(list(found))
        return
    print_rows(["QUEUE", "READY", "IN HAND", "WORKERS", "BUSY"], map(_row, found), empty="No queues.")


def _row(queue: Queue) -> list[Any]:
    slots = None if queue.busy is None or queue.slots is None else f"{queue.busy}/{queue.slots}"
    return [queue.name, queue.ready, queue.unacknowledged, queue.workers, slots]


def _print_signatures(found: Any, output: Output) -> None:
    if output is Output.JSON:
        print_json(list(found))
        return
    print_rows(["TASK", "PARAMETERS"], map(_signature_row, found), empty="No worker has announced its tasks yet.")


def _signature_row(signature: TaskSignature) -> list[str]:
    schema = signature.parameters or {}
    required = set(schema.get("required", ()))
    names = (name if name in required else f"[{name}]" for name in schema.get("properties", {}))
    return [signature.name, " ".join(names)]


def _print_answer(answer: dict[str, Any], output: Output) -> None:
    if output is Output.JSON:
        print_json(answer)
        return
    for name, value in answer.items():
        console().print(f"{name}: {value}", markup=False)
