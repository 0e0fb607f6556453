"""What the commands that list things share: one table or JSON array, and groups that list when nothing else is said."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import typer

from taskfleet.client import Client
from taskfleet.commands.parameters import KeyOption, Output, OutputOption, UrlOption, open_client
from taskfleet.exit_codes import ExitCode
from taskfleet.output import print_json, print_rows

__all__ = ["Listing", "add_group"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """How things of a kind are listed; `empty` is said when there are none."""

    columns: Sequence[str]
    build_row: Callable[[T], Sequence[Any]]
    empty: str

    def print(self, found: Iterable[T], output: Output) -> None:
        """A table for people, an array for scripts."""
        if output is Output.JSON:
            print_json(list(found))
        else:
            print_rows(self.columns, map(self.build_row, found), empty=self.empty)


def add_group(
    app: typer.Typer, name: str, text: str, listing: Listing[T], fetch: Callable[[Client], Iterable[T]]
) -> typer.Typer:
    """A group of commands; `list`, or the group alone, lists."""

    def list_all(
        context: typer.Context, output: OutputOption = Output.TABLE, url: UrlOption = None, api_key: KeyOption = None
    ) -> int:
        if context.invoked_subcommand is None:
            with open_client(url, api_key) as client:
                listing.print(fetch(client), output)
        return ExitCode.OK

    group = typer.Typer(help=text, rich_markup_mode=None)
    group.callback(invoke_without_command=True)(list_all)
    group.command("list", help="List them all.")(list_all)
    app.add_typer(group, name=name)
    return group
