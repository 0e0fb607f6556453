"""Parameter schemas are read from what an app's author wrote anyway."""

import enum
import json
from typing import Any, Literal

from celery import Celery, Task

from taskfleet_worker.catalog import build_catalog, build_parameter_schema

NOTHING = object()
app = Celery("catalog", set_as_current=False)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@app.task
def typed(
    a: int, b: list[str], *, c: dict[str, float] | None = None, d: Literal["x", "y"] = "x", e: Colour = Colour.RED
) -> None:
    """Does a thing.

    Details that nobody lists.
    """


@app.task(bind=True)
def bound(self: Task, x, y=2, *rest, **options) -> None:  # type: ignore[no-untyped-def]
    return None


@app.task
def unresolvable(x: "Nowhere", y: Any = NOTHING) -> None:  # type: ignore[name-defined]  # noqa: F821
    return None


def test_annotations_become_a_schema() -> None:
    schema = build_parameter_schema(typed)
    assert schema["description"] == "Does a thing."
    assert schema["properties"] == {
        "a": {"type": "integer"},
        "b": {"type": "array", "items": {"type": "string"}},
        "c": {
            "anyOf": [{"type": "object", "additionalProperties": {"type": "number"}}, {"type": "null"}],
            "default": None,
        },
        "d": {"enum": ["x", "y"], "default": "x"},
        "e": {"enum": ["red", "blue"]},
    }
    assert schema["required"] == ["a", "b"]
    assert schema["x-positional"] == ["a", "b"]
    assert schema["additionalProperties"] is False


def test_bound_and_variadic_tasks() -> None:
    schema = build_parameter_schema(bound)
    assert schema["x-positional"] == ["x", "y"]
    assert (schema["x-variadic"], schema["additionalProperties"]) == (True, True)
    assert schema["properties"]["y"] == {"default": 2}


def test_what_cannot_be_read_is_left_open() -> None:
    assert build_parameter_schema(unresolvable)["properties"] == {"x": {}, "y": {}}


def test_celerys_own_tasks_are_not_announced() -> None:
    app.finalize()
    catalog = build_catalog(app.tasks)
    assert not [name for name in catalog if name.startswith("celery.")]
    assert all(json.loads(text)["type"] == "object" for text in catalog.values())
