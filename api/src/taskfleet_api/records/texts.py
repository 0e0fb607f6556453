"""Text that every database takes, and JSON as text. Pure."""

import functools
import json
import math
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import orjson

from taskfleet_api.records.model import RetryPolicy

__all__ = ["build_arrays", "chunked", "clean_text", "decode_retry", "encode_json", "encode_retry", "is_clean"]

T = TypeVar("T")

# Values in one list of a statement: a driver takes 32,766 parameters at most (SQLite; the others 65,535), a statement
# that is short holds its locks shortly, and beyond some hundred a longer one saves no time.
CHUNK_SIZE = 500

# PostgreSQL refuses NUL in text, UTF-8 has no lone surrogates.
_REFUSED = re.compile("[\0\ud800-\udfff]")


def is_clean(text: str) -> bool:
    """Whether every database takes the text as it is."""
    return ("\0" not in text) if text.isascii() else _REFUSED.search(text) is None


def clean_text(text: str, limit: int) -> str:
    """The text with what no database takes replaced, at most `limit` characters."""
    return text[:limit] if is_clean(text) else _REFUSED.sub("\ufffd", text)[:limit]


def encode_json(value: Any) -> str:
    """JSON text of a decoded value. Never fails: what is no JSON (NaN) is null, what nests too deep is said so."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        pass  # an integer beyond 64 bits, a lone surrogate, or deep nesting
    try:
        return json.dumps(_without_nan(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    except (RecursionError, TypeError, ValueError):
        return '"(not recorded: no JSON, or nested too deeply)"'


def _without_nan(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _without_nan(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_nan(item) for item in value]
    return value


@functools.lru_cache(maxsize=1024)
def encode_retry(policy: RetryPolicy | None) -> str | None:
    """The policy as JSON text."""
    return None if policy is None else orjson.dumps(policy).decode()


@functools.lru_cache(maxsize=1024)
def decode_retry(text: str | None) -> RetryPolicy | None:
    """The policy of a row."""
    return None if text is None else RetryPolicy(**orjson.loads(text))


def chunked(items: Sequence[T], size: int = CHUNK_SIZE) -> list[Sequence[T]]:
    """The items in pieces of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def build_arrays(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Rows as one array per column, for PostgreSQL's unnest.

    A column of nothing but None becomes an empty array, which unnest pads with NULL: asyncpg spends most of its time
    on looking at the single elements.
    """
    count = len(rows)
    return [() if column.count(None) == count else column for column in zip(*rows, strict=True)]
