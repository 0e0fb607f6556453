"""keys: list, create and revoke API keys."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from taskfleet.client import Client
from taskfleet.commands.listing import Listing, add_group
from taskfleet.commands.parameters import KeyOption, Output, OutputOption, UrlOption, open_client
from taskfleet.completing import complete_queues
from taskfleet.exit_codes import ExitCode
from taskfleet.models import ApiKey
from taskfleet.output import console, describe_age, print_json
from taskfleet_core.scopes import KeyScope

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command group; without a subcommand it lists."""
    group = add_group(app, "keys", "API keys: list (without a subcommand), create, revoke.", LISTING, Client.keys)
    group.command("create")(create_key)
    group.command("revoke")(revoke_key)


def _build_row(key: ApiKey) -> list[Any]:
    queues = "all" if key.queues is None else ",".join(key.queues)
    expires = describe_age(key.expires_at) if key.expires_at else "never"
    return [key.name, ",".join(key.scopes), queues, describe_age(key.created_at), expires]


LISTING = Listing(["KEY", "SCOPES", "QUEUES", "CREATED", "EXPIRES"], _build_row, empty="No keys.")


def create_key(
    name: Annotated[str, typer.Argument(help="Name of the holder; tasks and audit lines carry it.")],
    scope: Annotated[list[KeyScope] | None, typer.Option(help="What it is good for; repeat for several.")] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(help="A queue, or a beginning such as 'shop-*'; default all.", autocompletion=complete_queues),
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Days until it expires; default never.")] = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Make a key and print it: it cannot be read again."""
    if not scope:
        raise typer.BadParameter("say what the key is good for: --scope submit --scope read")
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
    with open_client(url, api_key) as client:
        client.revoke_key(name)
    return ExitCode.OK
