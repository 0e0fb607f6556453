"""The command line: the typer application, and the one place where errors become messages and exit codes."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from taskfleet.commands import (
    completion,
    doctor,
    explain,
    history,
    keys,
    queues,
    schedules,
    simulate,
    submit,
    tasks,
    top,
    up,
    waiting,
)
from taskfleet.errors import InvalidInputError, TaskfleetError
from taskfleet.exit_codes import DESCRIPTIONS, ExitCode, get_exit_code
from taskfleet.output import printable

__all__ = ["app", "run"]

EPILOG = "Exit codes: " + "; ".join(f"{code.value} {text}" for code, text in DESCRIPTIONS.items()) + "."

app = typer.Typer(
    name="taskfleet",
    help="Task queues over HTTP, with workers that come and go. `taskfleet up` runs it all on this machine; the other "
    "commands talk to the API at --url or TASKFLEET_URL (default http://127.0.0.1:8000).",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (
    submit,
    tasks,
    waiting,
    queues,
    top,
    explain,
    history,
    schedules,
    keys,
    up,
    doctor,
    simulate,
    completion,
):
    module.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"taskfleet {version('taskfleet')}\n")
        raise typer.Exit


@app.callback()
def _read_options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Nothing but the options that belong to no command."""


def run() -> None:
    """Run the command line and exit with its code."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: list[str], program: str = "taskfleet") -> int:
    """Run one command; the exit code. Errors are told on standard error; help calls the command line `program`."""
    try:
        code = app(arguments, standalone_mode=False, prog_name=program)
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except TaskfleetError as error:
        tell(str(error))
        if isinstance(error, InvalidInputError):
            for fault in error.errors:
                if fault.detail not in str(error):
                    tell(f"  {fault.pointer}: {fault.detail}")
        return get_exit_code(error)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing more to say
        return ExitCode.OK
    except Exception as error:  # click's own errors: usage, bad parameters
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            raise
        error.show(file=sys.stderr)
        return ExitCode.USAGE
    return int(code or 0)


def tell(text: str) -> None:
    """One message to standard error."""
    sys.stderr.write(f"{printable(text)}\n")
