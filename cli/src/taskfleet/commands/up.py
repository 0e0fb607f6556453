"""up: the whole of Taskfleet on this machine."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up(
    files: Annotated[
        list[Path] | None, typer.Option("--file", "-f", help="TaskQueue file; can be repeated.", show_default=False)
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(envvar="TASKFLEET_BROKER", metavar="URL", help="amqp:// or redis://; default: own Valkey."),
    ] = None,
    broker_management: Annotated[
        str | None,
        typer.Option(
            envvar="TASKFLEET_BROKER_MANAGEMENT", metavar="URL", help="RabbitMQ's management API, if not on port 15672."
        ),
    ] = None,
    broker_metrics: Annotated[
        str | None,
        typer.Option(
            envvar="TASKFLEET_BROKER_METRICS", metavar="URL", help="RabbitMQ's metrics, if not on port 15692."
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            envvar="TASKFLEET_DATABASE", metavar="URL", help="postgresql://, mysql:// or sqlite:///; default: SQLite."
        ),
    ] = None,
    redis: Annotated[
        str | None, typer.Option(envvar="TASKFLEET_REDIS", metavar="URL", help="redis://; default: own Valkey.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address that the API listens on.")] = "127.0.0.1",
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Let others in without a key when --host allows.")] = False,
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port of the API.")] = 8000,
    data: Annotated[Path, typer.Option(help="Folder for database, Valkey's data and logs.")] = Path(".taskfleet"),
    max_workers: Annotated[
        int | None,
        typer.Option("--max-workers", min=1, help="Most worker processes of all queues together.", show_default=False),
    ] = None,
    references: Annotated[bool, typer.Option("--references", help="Also serve the reference projects' paths.")] = False,
    flower: Annotated[bool, typer.Option("--flower", help="Start Flower on http://127.0.0.1:5555.")] = False,
    no_tui: Annotated[bool, typer.Option("--no-tui", help="Plain log lines instead of the live view.")] = False,
) -> int:
    """Run API, store, database and, for each TaskQueue, worker processes that come and go with the load.

    Ctrl-C lets running tasks finish and stops; a second Ctrl-C stops at once. Nothing accepted is lost either way,
    nor when this process is killed: the next start goes on.
    """
    from taskfleet.local.options import UpOptions
    from taskfleet.local.running import run_up

    return run_up(
        UpOptions(
            files=tuple(files or ()),
            broker_url=broker,
            broker_management_url=broker_management,
            broker_metrics_url=broker_metrics,
            database_url=database,
            redis_url=redis,
            host=host,
            port=port,
            data=data,
            references=references,
            max_workers=max_workers,
            has_no_auth=no_auth,
            flower=flower,
            live_view=not no_tui,
        )
    )
