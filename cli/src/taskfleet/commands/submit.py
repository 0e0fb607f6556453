"""submit: one task from words of the command line, or many from a file."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from taskfleet.commands.parameters import (
    KeyOption,
    Output,
    OutputOption,
    TimeoutOption,
    UrlOption,
    open_client,
    parse_arguments,
    parse_json,
    parse_moment,
    parse_pairs,
    parse_value,
)
from taskfleet.commands.waiting import wait_for
from taskfleet.completing import complete_queues, complete_task_names
from taskfleet.errors import InvalidInputError, TaskfleetError
from taskfleet.exit_codes import ExitCode
from taskfleet.models import Retry, Submission
from taskfleet.output import error_console, print_json

__all__ = ["register"]

QueueArgument = Annotated[str | None, typer.Argument(help="Queue.", show_default=False, autocompletion=complete_queues)]
TaskArgument = Annotated[
    str | None,
    typer.Argument(help="Task name, as its workers know it.", show_default=False, autocompletion=complete_task_names),
]
WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ARG|NAME=VALUE]...", help="Arguments: JSON where it is valid, else text."),
]
ArgsOption = Annotated[str | None, typer.Option("--args", metavar="JSON", help="Positional arguments, exactly.")]
KwargsOption = Annotated[str | None, typer.Option("--kwargs", metavar="JSON", help="Named arguments, exactly.")]
MetadataOption = Annotated[
    list[str] | None, typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="Yours, to find it by; repeat.")
]
PriorityOption = Annotated[int | None, typer.Option(min=0, max=9, help="9 first.")]
EtaOption = Annotated[str | None, typer.Option(metavar="TIME", help="Not before this time.")]
CountdownOption = Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Not before so long.")]
ExpiresOption = Annotated[str | None, typer.Option(metavar="TIME", help="Not to be started after.")]
TtlOption = Annotated[float | None, typer.Option(metavar="SECONDS", help="Not to be started after so long.")]
AttemptsOption = Annotated[int | None, typer.Option(min=1, help="Attempts after failures, the first included.")]
BackoffOption = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Pause before attempt 2; it doubles.")]
LimitOption = Annotated[float | None, typer.Option(metavar="SECONDS", help="Hard limit of the run time.")]
CallbackOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Called with the finished task; with --file, of lines without one.")
]
IdempotencyOption = Annotated[str | None, typer.Option(help="Submitting again with it gives the same task.")]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="Submit many: a file of JSON lines ('-': standard input), fields as in the API."),
]
BESIDE_FILE = frozenset({"queue", "task", "callback_url", "file", "output", "url", "api_key"})
WaitOption = Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is finished.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("submit")(submit)


def submit(
    context: typer.Context,
    queue: QueueArgument = None,
    task: TaskArgument = None,
    words: WordsArgument = None,
    args: ArgsOption = None,
    kwargs: KwargsOption = None,
    metadata: MetadataOption = None,
    priority: PriorityOption = None,
    eta: EtaOption = None,
    countdown: CountdownOption = None,
    expires_at: ExpiresOption = None,
    ttl: TtlOption = None,
    max_attempts: AttemptsOption = None,
    backoff: BackoffOption = 1.0,
    time_limit: LimitOption = None,
    callback_url: CallbackOption = None,
    idempotency_key: IdempotencyOption = None,
    file: FileOption = None,
    wait: WaitOption = False,
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
        _check_beside_file(context)
        return _submit_file(file, {"queue": queue, "task": task, "callback_url": callback_url}, output, url, api_key)
    if queue is None or task is None:
        raise typer.BadParameter("give a QUEUE and a TASK, or --file")
    submission = Submission(
        queue,
        task,
        *_merge_arguments(args, kwargs, words),
        metadata=_parse_metadata(metadata),
        priority=priority,
        eta=parse_moment(eta, "--eta"),
        countdown_seconds=countdown,
        expires_at=parse_moment(expires_at, "--expires-at"),
        ttl_seconds=ttl,
        retry=Retry(max_attempts=max_attempts, backoff_seconds=backoff) if max_attempts else None,
        timeout_seconds=time_limit,
        callback_url=callback_url,
    )
    return _submit_one(submission, idempotency_key, wait, timeout, output, url, api_key)


def _check_beside_file(context: typer.Context) -> None:
    """Refuse what would be ignored without a word."""
    others = [parameter for parameter in context.command.params if parameter.name not in BESIDE_FILE]
    sources = [context.get_parameter_source(str(parameter.name)) for parameter in others]
    said = [
        parameter.opts[0]
        for parameter, source in zip(others, sources, strict=True)
        if source is not None and source.name == "COMMANDLINE"
    ]
    if said:
        raise typer.BadParameter(f"{', '.join(said)}: not with --file, whose lines say it for each task")


def _merge_arguments(args: str | None, kwargs: str | None, words: list[str] | None) -> tuple[list[Any], dict[str, Any]]:
    positional, named = parse_arguments(words or [])
    exact_args, exact_kwargs = parse_json(args, list, "--args"), parse_json(kwargs, dict, "--kwargs")
    return [*(exact_args or []), *positional], {**(exact_kwargs or {}), **named}


def _parse_metadata(pairs: list[str] | None) -> dict[str, Any] | None:
    return {key: parse_value(value) for key, value in parse_pairs(pairs or [], "--metadata").items()} or None


def _submit_one(
    submission: Submission,
    idempotency_key: str | None,
    wait: bool,
    timeout: float | None,
    output: Output,
    url: str | None,
    api_key: str | None,
) -> int:
    with open_client(url, api_key) as client:
        accepted = client.submit_item(submission, idempotency_key=idempotency_key)
    if wait:
        return wait_for([accepted.id], timeout, output, url, api_key)
    if output is Output.JSON:
        print_json(accepted)
    else:
        sys.stdout.write(accepted.id + "\n")  # alone on its line, for $(...)
    return ExitCode.OK


def _submit_file(
    file: Path, common: Mapping[str, str | None], output: Output, url: str | None, api_key: str | None
) -> int:
    """`common` holds what the lines need not say."""
    submissions = _read_lines(file, {name: value for name, value in common.items() if value})
    with open_client(url, api_key) as client:
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
