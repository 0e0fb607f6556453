"""completion: the script that lets a shell complete the command line."""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # re-exported, unsaid

from taskfleet.exit_codes import ExitCode

__all__ = ["Shell", "build_script", "register"]

PROGRAM = "taskfleet"


class Shell(StrEnum):
    """What a script can be written for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("completion")(completion)


def completion(shell: Annotated[Shell, typer.Argument(help="The shell.", show_default=False)]) -> int:
    """Print the script that completes commands, options and names of queues, tasks and schedules.

    bash: source <(taskfleet completion bash), in ~/.bashrc. zsh: the same in ~/.zshrc, after compinit.
    fish: taskfleet completion fish > ~/.config/fish/completions/taskfleet.fish
    """
    sys.stdout.write(build_script(shell) + "\n")
    return ExitCode.OK


def build_script(shell: Shell) -> str:
    """The script; it asks the command itself, so that it need not be written again after an upgrade."""
    return get_completion_script(prog_name=PROGRAM, complete_var=f"_{PROGRAM.upper()}_COMPLETE", shell=shell)
