"""schedules: list, set and delete periodic tasks."""

from typing import Annotated, Any

import typer

from taskfleet.client import Client
from taskfleet.commands.listing import Listing, add_group
from taskfleet.commands.parameters import KeyOption, Output, OutputOption, UrlOption, open_client, parse_arguments
from taskfleet.completing import complete_queues, complete_schedules, complete_task_names
from taskfleet.exit_codes import ExitCode
from taskfleet.models import Schedule
from taskfleet.output import console, describe_age, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command group; without a subcommand it lists."""
    text = "Periodic tasks: list (without a subcommand), set, delete."
    group = add_group(app, "schedules", text, LISTING, Client.schedules)
    group.command("set")(set_schedule)
    group.command("delete")(delete_schedule)


def _build_row(schedule: Schedule) -> list[Any]:
    return [schedule.id, _describe_rule(schedule), schedule.queue, schedule.task, describe_age(schedule.next_at)]


def _describe_rule(schedule: Schedule) -> str:
    if schedule.cron:
        return f"{schedule.cron} ({schedule.time_zone or 'UTC'})"
    return f"every {schedule.interval_seconds or 0:g} s"


LISTING = Listing(["SCHEDULE", "WHEN", "QUEUE", "TASK", "NEXT"], _build_row, empty="No schedules.")


def set_schedule(
    schedule_id: Annotated[
        str, typer.Argument(metavar="ID", help="Name of the schedule.", autocompletion=complete_schedules)
    ],
    queue: Annotated[str, typer.Argument(help="Queue.", autocompletion=complete_queues)],
    task: Annotated[str, typer.Argument(help="Task name.", autocompletion=complete_task_names)],
    words: Annotated[list[str] | None, typer.Argument(metavar="[ARG|NAME=VALUE]...", help="As in submit.")] = None,
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
    with open_client(url, api_key) as client:
        schedule = client.put_schedule(schedule_id, document)
    if output is Output.JSON:
        print_json(schedule)
    else:
        console().print(
            f"{schedule.id}: {_describe_rule(schedule)}, next {describe_age(schedule.next_at)}", markup=False
        )
    return ExitCode.OK


def delete_schedule(
    schedule_id: Annotated[
        str, typer.Argument(metavar="ID", help="Name of the schedule.", autocompletion=complete_schedules)
    ],
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Remove a periodic task; what it already submitted stays."""
    with open_client(url, api_key) as client:
        client.delete_schedule(schedule_id)
    return ExitCode.OK
