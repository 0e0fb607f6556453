"""Options that several commands share, and reading values from the command line."""

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from taskfleet.client import Client

__all__ = [
    "KeyOption",
    "Output",
    "OutputOption",
    "TimeoutOption",
    "UrlOption",
    "open_client",
    "parse_arguments",
    "parse_json",
    "parse_moment",
    "parse_pairs",
    "parse_past",
]

KEYWORD = re.compile(r"^([A-Za-z_]\w*)=(.*)$", re.DOTALL)
AGE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
CLIENT_RETRIES = 2  # a person waits: two more tries within a second


class Output(StrEnum):
    """How results are written to standard output."""

    TABLE = "table"
    JSON = "json"


UrlOption = Annotated[
    str | None, typer.Option("--url", envvar="TASKFLEET_URL", help="Address of the API.", show_default=False)
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="TASKFLEET_API_KEY",
        metavar="KEY",
        help="Key for the API; in the environment other users of this machine cannot see it.",
        show_default=False,
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for scripts.")]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", "-t", min=0, metavar="SECONDS", help="Give up after so many seconds.")
]


def open_client(url: str | None, api_key: str | None) -> Client:
    """A client for a person who waits; a context manager."""
    return Client(url, api_key=api_key, retries=CLIENT_RETRIES)


def parse_value(text: str) -> Any:
    """JSON where the text is JSON, otherwise the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def parse_arguments(words: Iterable[str]) -> tuple[list[Any], dict[str, Any]]:
    """`1 two width=3` -> ([1, "two"], {"width": 3})."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        keyword = KEYWORD.match(word)
        if keyword:
            kwargs[keyword[1]] = parse_value(keyword[2])
        elif kwargs:
            raise typer.BadParameter(f"{word!r} comes after name=value: put plain arguments first")
        else:
            args.append(parse_value(word))
    return args, kwargs


def parse_json(text: str | None, kind: type[list[Any]] | type[dict[str, Any]], option: str) -> Any:
    """The JSON value of an option, which must be of one kind."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} is no valid JSON: {error}") from error
    if not isinstance(value, kind):
        raise typer.BadParameter(f"{option} must be a JSON {'array' if kind is list else 'object'}")
    return value


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """`key=value` words as a dictionary."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{option} {pair!r}: write key=value")
        found[key] = value
    return found


def parse_moment(text: str | None, option: str) -> datetime | None:
    """An ISO 8601 time; without a zone it is local."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{option} {text!r}: write a time such as 2026-01-31T12:00:00+01:00") from error


def parse_past(text: str | None, option: str) -> datetime | None:
    """A time as above, or so long ago: `90m`, `6h`, `2d`."""
    age = AGE.fullmatch(text or "")
    if age is None:
        return parse_moment(text, option)
    try:
        return datetime.now(UTC) - timedelta(seconds=float(age[1]) * UNIT_SECONDS[age[2]])
    except OverflowError as error:
        raise typer.BadParameter(f"{option} {text!r}: is before all times") from error
