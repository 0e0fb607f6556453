"""wait and watch: follow tasks until they are final; the exit code says how they ended."""

import asyncio
from typing import Annotated, Any

import typer

from taskfleet.async_client import AsyncClient
from taskfleet.client import Client
from taskfleet.commands.parameters import KeyOption, Output, OutputOption, TimeoutOption, UrlOption
from taskfleet.completing import complete_task_ids
from taskfleet.errors import TaskfleetError
from taskfleet.exit_codes import ExitCode
from taskfleet.models import Task
from taskfleet.output import console, describe_event, print_json, print_task
from taskfleet.progress import WaitView

__all__ = ["TaskIds", "print_tasks", "register", "wait_for"]

TaskIds = Annotated[
    list[str],
    typer.Argument(metavar="ID...", help="Task ids.", show_default=False, autocompletion=complete_task_ids),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("wait")(wait)
    app.command("watch")(watch)


def wait(
    ids: TaskIds,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Wait until tasks are finished, with their progress; fails when one of them did."""
    return wait_for(ids, timeout, output, url, api_key)


def wait_for(ids: list[str], timeout: float | None, output: Output, url: str | None, api_key: str | None) -> int:
    """Wait for tasks and print them; the exit code."""
    return asyncio.run(_wait(ids, timeout, output, url, api_key))


async def _wait(ids: list[str], timeout: float | None, output: Output, url: str | None, api_key: str | None) -> int:
    async with AsyncClient(url, api_key=api_key) as client:
        with WaitView(ids) as view:

            async def follow(task_id: str) -> Task:
                async for event in client.watch(task_id, timeout_seconds=timeout):
                    view.show(event)
                return await client.get(task_id)

            async with asyncio.TaskGroup() as group:
                running = [group.create_task(_guard(follow(task_id))) for task_id in ids]
    outcomes = [task.result() for task in running]
    errors = [outcome for outcome in outcomes if isinstance(outcome, TaskfleetError)]
    tasks = [outcome for outcome in outcomes if isinstance(outcome, Task)]
    if tasks or not errors:
        print_tasks(tasks, output, single=len(ids) == 1)
    if errors:
        raise errors[0]
    return ExitCode.OK if all(task.succeeded for task in tasks) else ExitCode.FAILED


async def _guard(waiting: Any) -> Task | TaskfleetError:
    """One lost wait does not end the others."""
    try:
        return await waiting  # type: ignore[no-any-return]
    except TaskfleetError as error:
        return error


def watch(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="Task id.", autocompletion=complete_task_ids)],
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Follow a task until it is final: its states as they happen, with a progress bar (json: one event a line).

    In a terminal progress moves a bar; elsewhere each report is a line. Exit code 0 when it succeeded, 1 when it did
    not.
    """
    out = console()
    with Client(url, api_key=api_key) as client:
        if output is Output.JSON:
            for event in client.watch(task_id, timeout_seconds=timeout):
                print_json(event, compact=True)
        else:
            with WaitView([task_id], out) as view:
                for event in client.watch(task_id, timeout_seconds=timeout):
                    if not (view.is_shown and event.kind == "progress"):
                        out.print(describe_event(event))
                    view.show(event)
        final = client.get(task_id)
    return ExitCode.OK if final.succeeded else ExitCode.FAILED


def print_tasks(tasks: list[Task], output: Output, *, single: bool) -> None:
    """JSON: the object itself when one was asked for, otherwise an array."""
    if output is Output.JSON:
        print_json(tasks[0] if single and tasks else tasks)
        return
    for number, task in enumerate(tasks):
        if number:
            console().print()
        print_task(task)
