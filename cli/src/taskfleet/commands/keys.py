"""keys: list, create and revoke API keys."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from taskfleet.client import Client
from taskfleet.commands.parameters import CLIENT_RETRIES, KeyOption, Output, OutputOption, UrlOption
from taskfleet.exit_codes import ExitCode
from taskfleet.models import ApiKey
from taskfleet.output import console, describe_age, print_json, print_rows

__all__ = ["register"]

SCOPES = ("submit", "read", "cancel", "admin")


def register(app: typer.Typer) -> None:
    """Add the command group; without a subcommand it lists."""
    group = typer.Typer(help="API keys: list (without a subcommand), create, revoke.", rich_markup_mode=None)
    group.callback(invoke_without_command=True)(list_keys)
    group.command("create")(create_key)
    group.command("list")(list_keys)
    group.command("revoke")(revoke_key)
    app.add_typer(group, name="keys")


def list_keys(
    context: typer.Context, output: OutputOption = Output.TABLE, url: UrlOption = None, api_key: KeyOption = None
) -> int:
    """All keys, without their secrets."""
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        found = client.keys()
    if output is Output.JSON:
        print_json(list(found))
    else:
        print_rows(["KEY", "SCOPES", "QUEUES", "CREATED", "EXPIRES"], map(_row, found), empty="No keys.")
    return ExitCode.OK


def _row(key: ApiKey) -> list[Any]:
    queues = "all" if key.queues is None else ",".join(key.queues)
    expires = describe_age(key.expires_at) if key.expires_at else "never"
    return [key.name, ",".join(key.scopes), queues, describe_age(key.created_at), expires]


def create_key(
    name: Annotated[str, typer.Argument(help="Name of the holder; tasks and audit lines carry it.")],
    scope: Annotated[list[str] | None, typer.Option(help="submit, read, cancel or admin; repeat for several.")] = None,
    queue: Annotated[
        list[str] | None, typer.Option(help="A queue, or a beginning such as 'shop-*'; default all.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Days until it expires; default never.")] = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Make a key and print it: it cannot be read again."""
    if not scope:
        raise typer.BadParameter("say what the key is good for: --scope submit --scope read")
    if unknown := set(scope) - set(SCOPES):
        raise typer.BadParameter(f"there is no scope {sorted(unknown)[0]!r}: use {', '.join(SCOPES)}")
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with Client(url, api_key=api_key, retries=0) as client:
        made = client.create_key(name, scope, queues=queue, expires_at=expires_at)
    if output is Output.JSON:
        print_json(made)
    else:
        console().print(made.key, markup=False, highlight=False, soft_wrap=True)
    return ExitCode.OK


def revoke_key(
    name: Annotated[str, typer.Argument(help="Name of the holder.")], url: UrlOption = None, api_key: KeyOption = None
) -> int:
    """Make a key worthless, within five seconds everywhere."""
    with Client(url, api_key=api_key, retries=CLIENT_RETRIES) as client:
        client.revoke_key(name)
    return ExitCode.OK
