"""The key that the API may ask for, as a caller has it."""

import re

from taskfleet.errors import InvalidInputError

__all__ = ["check_key"]

_HEADER_WORD = re.compile(r"[!-~]+")


def check_key(key: str | None) -> str | None:
    """The key without white space around it, such as the line end of a file; None for none.

    Raises InvalidInputError, which never shows the key, where the HTTP library's own message would.
    """
    key = (key or "").strip()
    if not key:
        return None
    if not _HEADER_WORD.fullmatch(key):
        raise InvalidInputError("The API key must be printable ASCII without spaces.")
    return key
