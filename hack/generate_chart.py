#!/usr/bin/env python3
"""Writes what the chart has from elsewhere: values.schema.json and docs/chart.md from values.schema.yaml, and the CRDs.

`--check` writes nothing and exits 1 when a file is not what its source says.
"""

import importlib
import json
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from generated import keep_files
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "taskfleet"
SOURCE = CHART / "values.schema.yaml"
CRDS = ("taskqueues.taskfleet.dev.yaml", "taskqueuepolicies.taskfleet.dev.yaml")
NOTE = "Generated from charts/taskfleet/values.schema.yaml by `make generate`; do not edit."

Schema = dict[str, Any]


def load_schema() -> Schema:
    """The schema as Helm reads it: settings spelled out, marks of ours taken away."""
    source = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    source.pop("x-definitions")
    schema = _expand(source)
    assert isinstance(schema, dict)
    return schema


def _expand(node: Any) -> Any:
    if isinstance(node, list):
        return [_expand(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "x-settings" in node:
        return _build_settings(node)
    return {key: _expand(value) for key, value in node.items() if key != "x-open"}


def _build_settings(node: Mapping[str, Any]) -> Schema:
    """The settings of a process, but for those that the chart itself sets."""
    module, _, name = node["x-settings"].partition(":")
    fields: dict[str, FieldInfo] = getattr(importlib.import_module(module), name).model_fields
    unknown = set(node["x-owned"]) - set(fields)
    if unknown:
        raise SystemExit(f"{name} has no field {', '.join(sorted(unknown))}: correct x-owned in {SOURCE.name}")
    return {
        "type": "object",
        "additionalProperties": False,
        "description": node["description"],
        "properties": {
            _camel_case(field): {**_describe_type(info.annotation), "description": info.description or ""}
            for field, info in fields.items()
            if field not in node["x-owned"]
        },
    }


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _describe_type(annotation: Any) -> Schema:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe_type(arguments[0])
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return _describe_type(next(part for part in arguments if part is not type(None)))
    if origin is tuple:
        return {"type": "array", "items": {"type": "string"}}
    return {"type": {bool: "boolean", int: "integer", float: "number"}.get(annotation, "string")}


def iterate_values(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every value by its dotted path, parents before their children."""
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, child
        yield from iterate_values(child, here)


def build_page(schema: Schema) -> str:
    """docs/chart.md."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    lines = [
        "# Values of the chart",
        "",
        f"<!-- {NOTE} -->",
        "",
        "How to install, upgrade and uninstall is told in [install.md](install.md).",
        "Names that are not listed here are refused.",
        "Of a pod's scheduling values and settings the defaults are empty.",
    ]
    for section, part in schema["properties"].items():
        if section == "global":
            continue
        lines += ["", f"## {section}", "", part["description"]]
        rows = [(f"{section}.{path}", child) for path, child in iterate_values(part)] or [(section, part)]
        lines += ["", "| Value | Kind | Default | Meaning |", "|---|---|---|---|"]
        lines += [_build_row(path, child, values) for path, child in rows if not _is_group(child)]
    return "\n".join(lines) + "\n"


def _is_group(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("properties"))


def _build_row(path: str, schema: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    kind = schema.get("type", "any")
    kinds = " or ".join(kind) if isinstance(kind, list) else kind
    if "enum" in schema:
        kinds = ", ".join(f"`{value}`" for value in schema["enum"])
    cells = (f"`{path}`", kinds, _show_default(path, values), schema["description"])
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _show_default(path: str, values: Any) -> str:
    for name in path.split("."):
        if not isinstance(values, dict) or name not in values:
            return ""
        values = values[name]
    if values is None:
        return "none"
    if values in ("", [], {}):
        return "empty"
    return f"`{json.dumps(values)}`" if not isinstance(values, str) else f"`{values}`"


def build_files() -> dict[Path, str]:
    """Everything that is generated, by path."""
    schema = load_schema()
    return {
        CHART / "values.schema.json": json.dumps({"$comment": NOTE, **schema}, indent=2, ensure_ascii=False) + "\n",
        ROOT / "docs" / "chart.md": build_page(schema),
        **{CHART / "crd" / name: (ROOT / "k8s" / "crd" / name).read_text(encoding="utf-8") for name in CRDS},
    }


def main() -> int:
    """Write the files, or compare them."""
    return keep_files(build_files())


if __name__ == "__main__":
    sys.exit(main())
