"""Whether an object has all that is wanted of it, by Kubernetes' own idea of lists. Pure."""

from typing import Any

from taskfleet_operator.overlay import MERGE_KEYS

__all__ = ["get_stored_form", "is_covered"]

KEYS = {**MERGE_KEYS, "ownerReferences": "uid"}


def is_covered(wanted: Any, actual: Any, field: str = "") -> bool:
    """Whether `actual` has every wanted field; what Kubernetes or others added does not count.

    Lists that Kubernetes merges by a key are compared item by item: a container or variable that another manager
    added stays its own. All other lists are compared in order and in full length.
    """
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(
            is_covered(value, actual.get(key), key) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        if not isinstance(actual, list):
            return False
        pairs = _pair(wanted, actual, field)
        return pairs is not None and all(is_covered(one, other) for one, other in pairs)
    return bool(wanted == actual)


def get_stored_form(wanted: Any, answer: Any, field: str = "") -> Any:
    """The part of `answer` that `wanted` asked for, as the API server spells it: what it left out is left out."""
    if isinstance(wanted, dict) and isinstance(answer, dict):
        return {key: get_stored_form(value, answer[key], key) for key, value in wanted.items() if key in answer}
    if isinstance(wanted, list) and isinstance(answer, list):
        pairs = _pair(wanted, answer, field)
        return answer if pairs is None else [get_stored_form(one, other) for one, other in pairs]
    return answer


def _pair(wanted: list[Any], actual: list[Any], field: str) -> list[tuple[Any, Any]] | None:
    """Items that belong together, or None when the lists do not match."""
    key = KEYS.get(field)
    if key is None or not all(isinstance(item, dict) and key in item for item in (*wanted, *actual)):
        return list(zip(wanted, actual, strict=True)) if len(wanted) == len(actual) else None
    found = {item[key]: item for item in actual}
    return [(item, found[item[key]]) for item in wanted] if all(item[key] in found for item in wanted) else None
