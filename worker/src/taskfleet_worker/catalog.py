"""JSON schemas of task parameters, read from signatures and annotations."""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import json
import types
import typing
import uuid
from collections.abc import Mapping
from typing import Any, Union

from .encoding import encode_value

__all__ = ["build_catalog", "build_parameter_schema"]

MAX_DESCRIPTION_CHARACTERS = 300
_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bytes: {"type": "string"},
    type(None): {"type": "null"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    decimal.Decimal: {"type": ["string", "number"]},
    dict: {"type": "object"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    set: {"type": "array"},
    frozenset: {"type": "array"},
}
_UNIONS = tuple(kind for kind in (Union, getattr(types, "UnionType", None)) if kind is not None)


def build_catalog(tasks: Mapping[str, Any]) -> dict[str, str]:
    """Task name -> JSON schema text, for every task that is not Celery's own."""
    return {
        name: json.dumps(build_parameter_schema(task), separators=(",", ":"))
        for name, task in sorted(tasks.items())
        if not name.startswith("celery.")
    }


def build_parameter_schema(task: Any) -> dict[str, Any]:
    """Schema of a task's keyword arguments; `x-positional` lists the names that positional arguments fill, in order."""
    schema: dict[str, Any] = {"type": "object"}
    description = (inspect.getdoc(task.run) or "").strip().split("\n\n")[0]
    if description:
        schema["description"] = description[:MAX_DESCRIPTION_CHARACTERS]
    try:
        signature = inspect.signature(task.run)
    except (TypeError, ValueError):
        return schema
    hints = _read_hints(task.run)
    properties, required, positional = {}, [], []
    schema["additionalProperties"] = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            schema["additionalProperties"] = True
        elif parameter.kind is parameter.VAR_POSITIONAL:
            schema["x-variadic"] = True
        else:
            properties[name] = _describe(hints.get(name, parameter.annotation), parameter)
            if parameter.kind is not parameter.KEYWORD_ONLY:
                positional.append(name)
            if parameter.default is parameter.empty:
                required.append(name)
    schema["properties"] = properties
    if required:
        schema["required"] = required
    schema["x-positional"] = positional
    return schema


def _read_hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations of an app may name anything, also what exists only for type checkers
        return {}


def _describe(annotation: Any, parameter: inspect.Parameter) -> dict[str, Any]:
    schema = _build_type(annotation)
    if parameter.default is not parameter.empty and isinstance(
        parameter.default, (str, int, float, bool, list, dict, type(None))
    ):
        schema = {**schema, "default": json.loads(encode_value(parameter.default))}
    return schema


def _build_type(annotation: Any) -> dict[str, Any]:
    if annotation is inspect.Parameter.empty or annotation is Any or isinstance(annotation, str):
        return {}
    if isinstance(annotation, type) and annotation in _SCALARS:
        return dict(_SCALARS[annotation])
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is not None:
        return _build_generic(origin, arguments)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return {"enum": [json.loads(encode_value(member.value)) for member in annotation]}
    if hasattr(annotation, "model_json_schema"):
        try:
            return dict(annotation.model_json_schema())
        except Exception:  # a model may hold what no schema can say
            return {"type": "object"}
    return {}


def _build_generic(origin: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    if origin in _UNIONS:
        return {"anyOf": [_build_type(item) for item in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is getattr(typing, "Annotated", None):
        return _build_type(arguments[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", **({"additionalProperties": _build_type(arguments[1])} if arguments[1:] else {})}
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [_build_type(item) for item in arguments]}
    if isinstance(origin, type) and hasattr(origin, "__iter__"):
        return {"type": "array", **({"items": _build_type(arguments[0])} if arguments else {})}
    return {}
