"""Input types that every database and every JSON reader takes: no NUL, no lone surrogates, no NaN, bounded depth."""

import math
from typing import Annotated, Any

from pydantic import AfterValidator

__all__ = ["CLEAN_TEXT", "CleanObject"]

MAX_DEPTH = 64
MAX_INTEGER = 2**63


def check_text(text: str) -> str:
    """The text itself. Raises ValueError for what PostgreSQL or UTF-8 cannot hold."""
    if "\x00" in text:
        raise ValueError("must not hold the NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not hold lone surrogates") from None
    return text


def check_json(value: Any, depth: int = 0) -> Any:
    """The value itself. Raises ValueError for JSON that not every reader takes."""
    if depth > MAX_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must hold finite numbers only")
    elif isinstance(value, int) and abs(value) >= MAX_INTEGER:
        raise ValueError("must hold integers of at most 64 bits")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key)
            check_json(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_json(item, depth + 1)
    return value


# Put last into an Annotated type, so that lengths are checked before.
CLEAN_TEXT = AfterValidator(check_text)
CleanObject = Annotated[dict[str, Any], AfterValidator(check_json)]
