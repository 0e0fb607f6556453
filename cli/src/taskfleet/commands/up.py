"""up: the whole of Taskfleet on this machine."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

FilesOption = Annotated[
    list[Path] | None, typer.Option("--file", "-f", help="TaskQueue file; can be repeated.", show_default=False)
]
BrokerOption = Annotated[
    str | None,
    typer.Option(envvar="TASKFLEET_BROKER", metavar="URL", help="amqp:// or redis://; default: own Valkey."),
]
BrokerManagementOption = Annotated[
    str | None,
    typer.Option(
        envvar="TASKFLEET_BROKER_MANAGEMENT", metavar="URL", help="RabbitMQ's management API, if not on port 15672."
    ),
]
BrokerMetricsOption = Annotated[
    str | None,
    typer.Option(envvar="TASKFLEET_BROKER_METRICS", metavar="URL", help="RabbitMQ's metrics, if not on port 15692."),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        envvar="TASKFLEET_DATABASE", metavar="URL", help="postgresql://, mysql:// or sqlite:///; default: SQLite."
    ),
]
RedisOption = Annotated[
    str | None, typer.Option(envvar="TASKFLEET_REDIS", metavar="URL", help="redis://; default: own Valkey.")
]
HostOption = Annotated[str, typer.Option(help="Address that the API listens on.")]
NoAuthOption = Annotated[bool, typer.Option("--no-auth", help="Let others in without a key when --host allows.")]
PortOption = Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port of the API.")]
DataOption = Annotated[Path, typer.Option(help="Folder for database, Valkey's data and logs.")]
MaxWorkersOption = Annotated[
    int | None,
    typer.Option("--max-workers", min=1, help="Most worker processes of all queues together.", show_default=False),
]
ReferencesOption = Annotated[bool, typer.Option("--references", help="Also serve the reference projects' paths.")]
FlowerOption = Annotated[bool, typer.Option("--flower", help="Start Flower on http://127.0.0.1:5555.")]
NoTuiOption = Annotated[bool, typer.Option("--no-tui", help="Plain log lines instead of the live view.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up(
    files: FilesOption = None,
    broker: BrokerOption = None,
    broker_management: BrokerManagementOption = None,
    broker_metrics: BrokerMetricsOption = None,
    database: DatabaseOption = None,
    redis: RedisOption = None,
    host: HostOption = "127.0.0.1",
    no_auth: NoAuthOption = False,
    port: PortOption = 8000,
    data: DataOption = Path(".taskfleet"),
    max_workers: MaxWorkersOption = None,
    references: ReferencesOption = False,
    flower: FlowerOption = False,
    no_tui: NoTuiOption = False,
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
