"""Input types that every database and every JSON reader takes: no NUL, no lone surrogates, no NaN, bounded depth."""

import math
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from taskfleet_api.tasks.schemas import OBJECT_SCHEMA, WITHOUT_NUL

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


class CleanText:
    """Checks a text, and says in JSON Schema as much as that can say. Put last, so that lengths are checked before."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The text's own rules, then ours."""
        return core_schema.no_info_after_validator_function(check_text, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As the framework would write it, with the pattern."""
        return {**handler(schema), "pattern": WITHOUT_NUL}


CLEAN_TEXT = CleanText()
CleanObject = Annotated[dict[str, Any], AfterValidator(check_json), WithJsonSchema(OBJECT_SCHEMA)]
