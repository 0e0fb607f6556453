"""Rules for JSON that is stored and sent as the caller's own text: nesting, numbers and characters. Pure.

The text is never rewritten, so integers of any useful size, duplicate keys and the order of members survive. Refused is
what a worker could not read back: numbers beyond Python's limits, lone surrogates, nesting beyond the limit; and NUL
characters, which the jsonb of PostgreSQL and many a worker's own database cannot hold.
"""

import json
import math
import re
import sys
from typing import Any, NoReturn

import msgspec

from taskfleet_api.problems import MalformedBodyError
from taskfleet_core.errors import FieldError, InvalidInputError

__all__ = ["escape_pointer", "is_too_deep", "may_hold_nul", "parse_members", "parse_value"]

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NUL_ESCAPE = b"\\u0000"  # the only spelling: JSON allows no raw NUL


class _Pairs(tuple[Any, ...]):
    """The members of an object, duplicates included: they too are in the text that is kept."""


def may_hold_nul(text: bytes) -> bool:
    """Whether a string may hold the NUL character: one search of the bytes. `\\u0000` after a backslash is no NUL."""
    return _NUL_ESCAPE in text


def is_too_deep(text: bytes, limit: int) -> bool:
    """Whether brackets nest deeper than `limit`; brackets inside strings do not count."""
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    brackets = _STRING.sub(b"", text).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(limit):
        if not brackets:
            return False
        # One round takes away the innermost level everywhere.
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def parse_value(text: bytes, pointer: str) -> Any:
    """The value of one member's text. Raises InvalidInputError at `pointer` for what a worker could not read."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_float)
    except json.JSONDecodeError as error:
        raise _build_malformed(error) from error
    except UnicodeDecodeError as error:
        raise MalformedBodyError(f"The body is not UTF-8: byte {error.start} is {error.reason}.") from error
    except ValueError as error:
        raise _build_invalid(pointer, _describe(error)) from error
    if _SURROGATE.search(json.dumps(value, ensure_ascii=False, check_circular=False)):
        raise _build_invalid(pointer, "Strings must be valid Unicode: there is half of a surrogate pair.")
    if may_hold_nul(text) and (place := _find_nul(text, pointer)) is not None:
        raise _build_invalid(place, "Strings must not hold the NUL character (U+0000).")
    return value


def _find_nul(text: bytes, pointer: str) -> str | None:
    """The pointer to a string with a NUL character; for a name of a member, to its object."""
    waiting: list[tuple[str, Any]] = [(pointer, json.loads(text, object_pairs_hook=_Pairs))]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str) and "\x00" in value:
            return place
        if isinstance(value, _Pairs):
            if any("\x00" in name for name, _ in value):
                return place
            waiting.extend((f"{place}/{escape_pointer(name)}", item) for name, item in value)
        elif isinstance(value, list):
            waiting.extend((f"{place}/{index}", item) for index, item in enumerate(value))
    return None


def escape_pointer(part: str) -> str:
    """One part of a JSON pointer (RFC 6901)."""
    return part.replace("~", "~0").replace("/", "~1")


def parse_members(body: bytes, max_depth: int, pointer: str = "#") -> dict[str, bytes]:
    """The members of a JSON object, each still as text. Raises MalformedBodyError and InvalidInputError."""
    if is_too_deep(body, max_depth):
        raise _build_invalid(pointer, f"Arrays and objects may nest at most {max_depth} deep.")
    try:
        members = _members.decode(body)
    except msgspec.ValidationError as error:
        raise _build_invalid(pointer, "The input must be a JSON object.") from error
    except msgspec.DecodeError as error:
        parse_value(body, pointer)  # says more exactly what is wrong
        raise MalformedBodyError(f"{error}.") from error
    except UnicodeDecodeError as error:
        raise MalformedBodyError(f"The body is not UTF-8: {error.reason}.") from error
    return {name: bytes(raw) for name, raw in members.items()}


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("number out of range")
    return value


def _describe(error: ValueError) -> str:
    if "integer string conversion" in str(error):
        return f"Integers may have at most {sys.get_int_max_str_digits()} digits."
    return "Numbers must fit into 64-bit floating point."


def _build_malformed(error: json.JSONDecodeError) -> MalformedBodyError:
    if error.doc in ("NaN", "Infinity", "-Infinity"):
        return MalformedBodyError(f"The body is not JSON: {error.msg}.")
    return MalformedBodyError(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.")


def _build_invalid(pointer: str, detail: str) -> InvalidInputError:
    return InvalidInputError("The input is not valid.", (FieldError(pointer, detail),))
