"""Values of tasks as plain JSON that every reader accepts: no NaN, no lone surrogates, nothing Python-only."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

__all__ = ["encode_json", "encode_value"]

MAX_DEPTH = 200


def _default(value: Any) -> Any:
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)


_encode_strict = json.JSONEncoder(default=_default, allow_nan=False, separators=(",", ":"), check_circular=True).encode


def _clean(value: Any, depth: int = 0) -> Any:
    """A copy that encodes in any case: the slow way, for what the encoder refused."""
    if depth > MAX_DEPTH:
        return f"<{type(value).__name__}>"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, Mapping):
        return {_clean(str(key)): _clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(item, depth + 1) for item in value]
    try:
        return _clean(_default(value), depth + 1)
    except Exception:  # a foreign __str__ or model_dump may raise anything
        return f"<{type(value).__name__}>"


def encode_value(value: Any) -> str:
    """Any Python value as JSON text; what JSON cannot say becomes null, text or a list."""
    try:
        text = _encode_strict(value)
    except (TypeError, ValueError, RecursionError):
        return _encode_strict(_clean(value))
    except Exception:  # a foreign __str__ or model_dump may raise anything
        return _encode_strict(_clean(value))
    # Lone surrogates are legal in JSON escapes and in no database. Pairs are rare enough for the slow way too.
    if "\\ud" in text:
        return _encode_strict(_clean(value))
    return text


encode_json = _encode_strict
