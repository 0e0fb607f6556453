"""submit, get, wait, watch, list, cancel and retry."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from taskfleet.async_client import AsyncClient
from taskfleet.client import Client
from taskfleet.commands.parameters import (
    CLIENT_RETRIES,
    KeyOption,
    Output,
    OutputOption,
    UrlOption,
    parse_arguments,
    parse_json,
    parse_moment,
    parse_pairs,
    parse_value,
)
from taskfleet.errors import InvalidInputError, TaskfleetError
from taskfleet.exit_codes import ExitCode
from taskfleet.models import Retry, Submission, Task
from taskfleet.output import (
    console,
    describe_age,
    describe_event,
    error_console,
    print_json,
    print_rows,
    print_task,
    state_text,
)
from taskfleet.progress import WaitView
from taskfleet_core.states import TaskState

__all__ = ["register"]

TaskIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Task ids.", show_default=False)]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", "-t", min=0, metavar="SECONDS", help="Give up after so many seconds.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("submit")(submit)
    app.command("get")(get)
    app.command("wait")(wait)
    app.command("watch")(watch)
    app.command("list")(list_tasks)
    app.command("cancel")(cancel)
    app.command("retry")(retry)


def submit(
    queue: Annotated[str | None, typer.Argument(help="Queue.", show_default=False)] = None,
    task: Annotated[str | None, typer.Argument(help="Task name, as its workers know it.", show_default=False)] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARG|NAME=VALUE]...", help="Arguments: JSON where it is valid, else text."),
    ] = None,
    args: Annotated[str | None, typer.Option("--args", metavar="JSON", help="Positional arguments, exactly.")] = None,
    kwargs: Annotated[str | None, typer.Option("--kwargs", metavar="JSON", help="Named arguments, exactly.")] = None,
    metadata: Annotated[list[str] | None, typer.Option("--metadata", "-m", metavar="KEY=VALUE")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="9 first.")] = None,
    eta: Annotated[str | None, typer.Option(metavar="TIME", help="Not before this time.")] = None,
    countdown: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Not before so long.")] = None,
    expires_at: Annotated[str | None, typer.Option(metavar="TIME", help="Not to be started after.")] = None,
    ttl: Annotated[float | None, typer.Option(metavar="SECONDS", help="Not to be started after so long.")] = None,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, help="Attempts after failures, the first included.")
    ] = None,
    backoff: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Pause before attempt 2; it doubles.")] = 1.0,
    time_limit: Annotated[float | None, typer.Option(metavar="SECONDS", help="Hard limit of the run time.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Submitting again with it gives the same task.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", help="Submit many: a file of JSON lines ('-': standard input), fields as in the API."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is finished.")] = False,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Submit a task, or many with --file.

    Example: taskfleet submit hello hello.add 2 3 --wait

    Arguments that begin with a dash go after `--`.
    """
    if file is not None:
        return _submit_file(file, queue, task, output, url, api_key)
    if queue is None or task is None:
        raise typer.BadParameter("give a QUEUE and a TASK, or --file")
    positional, named = parse_arguments(words or [])
    submission = Submission(
        queue,
        task,
        [*(parse_json(args, list, "--args") or []), *positional],
        {**(parse_json(kwargs, dict, "--kwargs") or {}), **named},
        metadata={key: parse_value(value) for key, value in parse_pairs(metadata or [], "--metadata").items()} or None,
        priority=priority,
        eta=parse_moment(eta, "--eta"),
        countdown_seconds=countdown,
        expires_at=parse_moment(expires_at, "--expires-at"),
        ttl_seconds=ttl,
        retry=Retry(max_attempts=max_attempts, backoff_seconds=backoff) if max_attempts else None,
        timeout_seconds=time_limit,
    )
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        accepted = client.submit_item(submission, idempotency_key=idempotency_key)
    if wait:
        return asyncio.run(_wait([accepted.id], timeout, output, url, api_key))
    if output is Output.JSON:
        print_json(accepted)
    else:
        sys.stdout.write(accepted.id + "\n")  # alone on its line, for $(...)
    return ExitCode.OK


def _submit_file(
    file: Path, queue: str | None, task: str | None, output: Output, url: str | None, api_key: str | None
) -> int:
    submissions = _read_lines(file, {name: value for name, value in (("queue", queue), ("task", task)) if value})
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        outcomes = client.submit_many(submissions)
    refused = 0
    for number, outcome in enumerate(outcomes, 1):
        if isinstance(outcome, TaskfleetError):
            refused += 1
            error_console().print(f"line {number}: {outcome}", markup=False, soft_wrap=True)
        elif output is Output.JSON:
            print_json(outcome, compact=True)
        else:
            sys.stdout.write(outcome.id + "\n")
    return ExitCode.USAGE if refused else ExitCode.OK


def _read_lines(file: Path, defaults: dict[str, str]) -> list[dict[str, Any]]:
    documents = []
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file}: cannot be read: {error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except ValueError as error:
            raise InvalidInputError(f"{file}:{number}: is no valid JSON: {error}: write one object a line") from error
        if not isinstance(document, dict):
            raise InvalidInputError(f"{file}:{number}: must be a JSON object with queue and task")
        documents.append(defaults | document)
    return documents


def get(ids: TaskIds, output: OutputOption = Output.TABLE, url: UrlOption = None, api_key: KeyOption = None) -> int:
    """Show tasks."""
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        _print_tasks([client.get(task_id) for task_id in ids], output, single=len(ids) == 1)
    return ExitCode.OK


def wait(
    ids: TaskIds,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Wait until tasks are finished, with their progress; fails when one of them did."""
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
        _print_tasks(tasks, output, single=len(ids) == 1)
    if errors:
        raise errors[0]
    return ExitCode.OK if all(task.succeeded for task in tasks) else ExitCode.TASK_FAILED


async def _guard(waiting: Any) -> Task | TaskfleetError:
    """One lost wait does not end the others."""
    try:
        return await waiting  # type: ignore[no-any-return]
    except TaskfleetError as error:
        return error


def watch(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="Task id.")],
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Print a task's states and progress as they happen (json: one event a line)."""
    with Client(url, api_key=api_key) as client:
        for event in client.watch(task_id, timeout_seconds=timeout):
            if output is Output.JSON:
                print_json(event, compact=True)
            else:
                console().print(describe_event(event))
        final = client.get(task_id)
    return ExitCode.OK if final.succeeded else ExitCode.TASK_FAILED


def list_tasks(
    queue: Annotated[str | None, typer.Option("--queue", "-q")] = None,
    state: Annotated[list[TaskState] | None, typer.Option("--state", "-s", help="Can be repeated.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="Task name.")] = None,
    metadata: Annotated[list[str] | None, typer.Option("--metadata", "-m", metavar="KEY=VALUE")] = None,
    created_after: Annotated[str | None, typer.Option(metavar="TIME")] = None,
    created_before: Annotated[str | None, typer.Option(metavar="TIME")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Most tasks; 0: all.")] = 50,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """List tasks, newest first."""
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        found = client.list(
            queue=queue,
            states=state or (),
            task=task,
            metadata=parse_pairs(metadata or [], "--metadata"),
            created_after=parse_moment(created_after, "--created-after"),
            created_before=parse_moment(created_before, "--created-before"),
            limit=limit or None,
        )
        if output is Output.JSON:
            print_json([*found])
        else:
            print_rows(
                ["ID", "STATE", "QUEUE", "TASK", "AGE", "RUN TIME", "ATTEMPT"],
                (
                    (t.id, state_text(t.state), t.queue, t.task, describe_age(t.created_at), _run_time(t), t.attempt)
                    for t in found
                ),
                empty="No tasks.",
            )
    return ExitCode.OK


def cancel(
    ids: TaskIds,
    terminate: Annotated[bool, typer.Option("--terminate", help="Stop it also when it runs (prefork only).")] = False,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Cancel tasks that have not ended; running ones only with --terminate."""
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        _print_states([client.cancel(task_id, terminate=terminate) for task_id in ids], output)
    return ExitCode.OK


def retry(ids: TaskIds, output: OutputOption = Output.TABLE, url: UrlOption = None, api_key: KeyOption = None) -> int:
    """Start a new attempt of tasks that failed, were cancelled, expired or are dead."""
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        _print_states([client.retry(task_id) for task_id in ids], output)
    return ExitCode.OK


def _print_tasks(tasks: list[Task], output: Output, *, single: bool) -> None:
    """JSON: the object itself when one was asked for, otherwise an array."""
    if output is Output.JSON:
        print_json(tasks[0] if single and tasks else tasks)
        return
    for number, task in enumerate(tasks):
        if number:
            console().print()
        print_task(task)


def _print_states(tasks: list[Task], output: Output) -> None:
    if output is Output.JSON:
        print_json(tasks[0] if len(tasks) == 1 else tasks)
        return
    for task in tasks:
        note = " (cancellation requested)" if task.cancel_requested and not task.is_final else ""
        console().print(state_text(task.state).append(f"{note} {task.id}", style="default"))


def _run_time(task: Task) -> str:
    return "-" if task.runtime_seconds is None else f"{task.runtime_seconds:.2f}s"
