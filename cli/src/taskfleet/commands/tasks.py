"""get, list, cancel and retry."""

from typing import Annotated, Any

import typer

from taskfleet.commands.listing import Listing
from taskfleet.commands.parameters import (
    KeyOption,
    Output,
    OutputOption,
    UrlOption,
    open_client,
    parse_moment,
    parse_pairs,
)
from taskfleet.commands.waiting import TaskIds, print_tasks
from taskfleet.completing import complete_queues, complete_task_names
from taskfleet.exit_codes import ExitCode
from taskfleet.models import Task
from taskfleet.output import console, describe_age, print_json, state_text
from taskfleet_core.states import TaskState

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("get")(get)
    app.command("list")(list_tasks)
    app.command("cancel")(cancel)
    app.command("retry")(retry)


def get(ids: TaskIds, output: OutputOption = Output.TABLE, url: UrlOption = None, api_key: KeyOption = None) -> int:
    """Show tasks."""
    with open_client(url, api_key) as client:
        print_tasks([client.get(task_id) for task_id in ids], output, single=len(ids) == 1)
    return ExitCode.OK


def _build_row(task: Task) -> list[Any]:
    run_time = "-" if task.runtime_seconds is None else f"{task.runtime_seconds:.2f}s"
    age = describe_age(task.created_at)
    return [task.id, state_text(task.state), task.queue, task.task, age, run_time, task.attempt]


LISTING = Listing(["ID", "STATE", "QUEUE", "TASK", "AGE", "RUN TIME", "ATTEMPT"], _build_row, empty="No tasks.")


def list_tasks(
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", help="Only of this queue.", autocompletion=complete_queues)
    ] = None,
    state: Annotated[list[TaskState] | None, typer.Option("--state", "-s", help="Can be repeated.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="Task name.", autocompletion=complete_task_names)] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="Only with it; repeat.")
    ] = None,
    created_after: Annotated[str | None, typer.Option(metavar="TIME", help="Only created then or later.")] = None,
    created_before: Annotated[str | None, typer.Option(metavar="TIME", help="Only created before.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Most tasks; 0: all.")] = 50,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """List tasks, newest first."""
    with open_client(url, api_key) as client:
        found = client.list(
            queue=queue,
            states=state or (),
            task=task,
            metadata=parse_pairs(metadata or [], "--metadata"),
            created_after=parse_moment(created_after, "--created-after"),
            created_before=parse_moment(created_before, "--created-before"),
            limit=limit or None,
        )
        LISTING.print(found, output)
    return ExitCode.OK


def cancel(
    ids: TaskIds,
    terminate: Annotated[bool, typer.Option("--terminate", help="Stop it also when it runs (prefork only).")] = False,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Cancel tasks that have not ended; running ones only with --terminate."""
    with open_client(url, api_key) as client:
        _print_states([client.cancel(task_id, terminate=terminate) for task_id in ids], output)
    return ExitCode.OK


def retry(ids: TaskIds, output: OutputOption = Output.TABLE, url: UrlOption = None, api_key: KeyOption = None) -> int:
    """Start a new attempt of tasks that failed, were cancelled, expired or are dead."""
    with open_client(url, api_key) as client:
        _print_states([client.retry(task_id) for task_id in ids], output)
    return ExitCode.OK


def _print_states(tasks: list[Task], output: Output) -> None:
    if output is Output.JSON:
        print_json(tasks[0] if len(tasks) == 1 else tasks)
        return
    for task in tasks:
        note = " (cancellation requested)" if task.cancel_requested and not task.is_final else ""
        console().print(state_text(task.state).append(f"{note} {task.id}", style="default"))
