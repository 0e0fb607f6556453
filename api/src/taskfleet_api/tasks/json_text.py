"""Rules for JSON that is stored and sent as the caller's own text: nesting, numbers and characters. Pure.

The text is never rewritten, so integers of any useful size, duplicate keys and the order of members survive. Refused is
what a worker could not read back: numbers beyond Python's limits, lone surrogates, nesting beyond the limit.
"""

import json
import math
import re
import sys
from typing import Any, NoReturn

import msgspec

from taskfleet_api.problems import MalformedBodyError
from taskfleet_core.errors import FieldError, InvalidInputError

__all__ = ["is_too_deep", "parse_members", "parse_value"]

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


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
    return value


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
