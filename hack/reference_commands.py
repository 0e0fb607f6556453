"""The page of the command line's reference, from its parser."""

from collections.abc import Iterator
from typing import Any

from reference_tables import table
from typer.main import get_command

from taskfleet.exit_codes import DESCRIPTIONS
from taskfleet.main import app

__all__ = ["build_command_line"]

INTRODUCTION = """# Command line

{note}
`taskfleet COMMAND --help` says the same.
`kubectl taskfleet` has the same commands: see [the guide](../command-line.md#in-a-cluster).
"""
# Wherever a command talks to the API.
SHARED = ("url", "api_key", "output")


def build_command_line(note: str) -> str:
    """Every command with its arguments and options; the shared ones and the exit codes once."""
    commands = dict(iterate_commands("taskfleet", get_command(app)))
    shared: dict[str, tuple[str, str]] = {}
    body: list[str] = []
    for path, command in commands.items():
        context = command.make_context(path, [], resilient_parsing=True)
        rows = [(param.name, param.get_help_record(context)) for param in command.params]
        shared |= {name: tidy(record) for name, record in rows if name in SHARED}
        own = [tidy(record) for name, record in rows if record and name not in (*SHARED, "help")]
        body += describe_command(command, " ".join([path, *command.collect_usage_pieces(context)]), path, own)
    lines = [INTRODUCTION.format(note=note), "## Shared options\n"]
    lines += table(("Option", "Meaning"), [shared[name] for name in SHARED])
    lines.append("\n## Exit codes\n")
    lines += table(("Code", "Meaning"), [(str(code.value), text) for code, text in DESCRIPTIONS.items()])
    return "\n".join([*lines, "\n## Commands", *body, ""])


def iterate_commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """(words, command) of each command that does something."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from iterate_commands(f"{path} {name}", child)


def describe_command(command: Any, usage: str, path: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    """What it does and what it takes."""
    yield f"\n### {path}\n"
    yield f"`{usage}`\n"
    for paragraph in (command.help or "").split("\n\n"):
        yield " ".join(paragraph.split()) + "\n"
    if rows:
        yield from table(("Argument or option", "Meaning"), rows)


def tidy(record: tuple[str, str]) -> tuple[str, str]:
    """Without line breaks and doubled blanks."""
    written, text = record
    return " ".join(written.split()), " ".join(text.split())
