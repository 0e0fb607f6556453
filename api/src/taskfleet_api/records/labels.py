"""Labels: the top-level scalars of a task's metadata, as text, for the metadata filter of listings. Pure."""

from collections.abc import Mapping
from typing import Any

from taskfleet_api.records.model import MAX_LABEL_LENGTH

__all__ = ["build_label_value", "build_labels", "is_label_text"]


def is_label_text(text: str) -> bool:
    """Whether every database takes the text as an indexed value: not too long, no NUL, no lone surrogate."""
    if len(text) > MAX_LABEL_LENGTH or "\0" in text:
        return False
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def build_label_value(value: Any) -> str | None:
    """The text under which a scalar is found (`true`, `null`, `12`, `1.5`, the string itself); None if not a scalar."""
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            # Python refuses to print integers beyond 4300 digits; such a number is no label anyway.
            return str(value) if value.bit_length() < 512 else None
        case float():
            return repr(value)
    return None


def build_labels(metadata: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """The labels of a metadata object. What cannot be indexed is left out: nested, too long, NUL characters."""
    labels = []
    for key, value in (metadata or {}).items():
        text = build_label_value(value)
        if text is not None and is_label_text(text) and is_label_text(key):
            labels.append((key, text))
    return tuple(labels)
