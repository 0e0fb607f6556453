"""schedules: list, set and delete periodic tasks."""

from typing import Annotated, Any

import typer

from taskfleet.client import Client
from taskfleet.commands.parameters import (
    CLIENT_RETRIES,
    KeyOption,
    Output,
    OutputOption,
    UrlOption,
    parse_arguments,
)
from taskfleet.exit_codes import ExitCode
from taskfleet.models import Schedule
from taskfleet.output import console, describe_age, print_json, print_rows

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command group; without a subcommand it lists."""
    group = typer.Typer(help="Periodic tasks: list (without a subcommand), set, delete.", rich_markup_mode=None)
    group.callback(invoke_without_command=True)(list_schedules)
    group.command("set")(set_schedule)
    group.command("delete")(delete_schedule)
    app.add_typer(group, name="schedules")


def list_schedules(
    context: typer.Context, output: OutputOption = Output.TABLE, url: UrlOption = None, api_key: KeyOption = None
) -> int:
    """Periodic tasks: list (without a subcommand), set, delete."""
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        found = client.schedules()
    if output is Output.JSON:
        print_json(list(found))
    else:
        print_rows(["SCHEDULE", "WHEN", "QUEUE", "TASK", "NEXT"], map(_row, found), empty="No schedules.")
    return ExitCode.OK


def _row(schedule: Schedule) -> list[Any]:
    return [schedule.id, _describe_rule(schedule), schedule.queue, schedule.task, describe_age(schedule.next_at)]


def _describe_rule(schedule: Schedule) -> str:
    if schedule.cron:
        return f"{schedule.cron} ({schedule.time_zone or 'UTC'})"
    return f"every {schedule.interval_seconds or 0:g} s"


def set_schedule(
    schedule_id: Annotated[str, typer.Argument(metavar="ID", help="Name of the schedule.")],
    queue: Annotated[str, typer.Argument(help="Queue.")],
    task: Annotated[str, typer.Argument(help="Task name.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[ARG|NAME=VALUE]...")] = None,
    cron: Annotated[str | None, typer.Option(help="Five fields, such as '0 7 * * 1-5'.")] = None,
    every: Annotated[float | None, typer.Option(metavar="SECONDS", help="An interval instead of --cron.")] = None,
    time_zone: Annotated[str, typer.Option(help="IANA time zone of --cron.")] = "UTC",
    catch_up: Annotated[str, typer.Option(help="After an outage: skip, last or all of the missed ticks.")] = "last",
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Create or replace a periodic task."""
    if (cron is None) == (every is None):
        raise typer.BadParameter("give either --cron or --every")
    args, kwargs = parse_arguments(words or [])
    rule = {"cron": cron, "time_zone": time_zone} if cron else {"interval_seconds": every}
    document = {"queue": queue, "task": task, "args": args, "kwargs": kwargs, "catch_up": catch_up, **rule}
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        schedule = client.put_schedule(schedule_id, document)
    if output is Output.JSON:
        print_json(schedule)
    else:
        console().print(
            f"{schedule.id}: {_describe_rule(schedule)}, next {describe_age(schedule.next_at)}", markup=False
        )
    return ExitCode.OK


def delete_schedule(
    schedule_id: Annotated[str, typer.Argument(metavar="ID", help="Name of the schedule.")],
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Remove a periodic task; what it already submitted stays."""
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        client.delete_schedule(schedule_id)
    return ExitCode.OK
