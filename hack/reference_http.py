"""The page of the HTTP API's reference, from its OpenAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any

from reference_tables import table

from taskfleet_api.app import create_app
from taskfleet_api.settings import Settings

__all__ = ["build_http_api"]

Json = Mapping[str, Any]
PROBLEM = "application/problem+json"
INTRODUCTION = """# HTTP API

{note}
The document itself is served at `/openapi.json`, and a page to try it at `/docs`.
How to use it is in [the guide](../http-api.md).
Every error is a [problem document](#problemmodel).
"""


def build_http_api(note: str) -> str:
    """Every operation by tag, then every schema that bodies and answers have."""
    document: Json = create_app(Settings()).openapi()
    lines = [INTRODUCTION.format(note=note)]
    for tag in document["tags"]:
        lines.append(f"## {tag['name'].capitalize()}\n\n{tag['description']}\n")
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if operation["tags"] == [tag["name"]]:
                    lines += describe_operation(f"{method.upper()} {path}", operation)
    lines.append("\n## Schemas\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += describe_schema(name, schema)
    return "\n".join([*lines, ""])


def describe_operation(place: str, operation: Json) -> Iterator[str]:
    """What it does, its parameters, its body and its answers."""
    yield f"\n### {operation['summary']}\n"
    yield f"`{place}` (`{operation['operationId']}`)\n"
    yield f"{operation['description']}\n"
    parameters = [
        (item["name"], item["in"], describe_kind(item["schema"]), item.get("description", ""))
        for item in operation.get("parameters", ())
    ]
    if parameters:
        yield from table(("Parameter", "In", "Kind", "Meaning"), parameters)
        yield ""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"Body, `{kind}`: {describe_kind(content.get('schema', {}))}.\n"
    answers = [
        (status, describe_content(answer.get("content", {})), answer["description"])
        for status, answer in operation["responses"].items()
    ]
    yield from table(("Status", "Answer", "When"), answers)


def describe_content(content: Json) -> str:
    """The kind of an answer's body."""
    if not content:
        return "none"
    kind, body = next(iter(content.items()))
    if kind == PROBLEM:
        return "problem"
    schema = body.get("schema", {})
    return describe_kind(schema) if schema and kind == "application/json" else f"`{kind}`"


def describe_schema(name: str, schema: Json) -> Iterator[str]:
    """A schema's members, or what it is instead."""
    yield f"\n### {name}\n"
    if text := schema.get("description"):
        yield f"{text}\n"
    if "properties" not in schema:
        yield f"Kind: {describe_kind(schema)}."
        return
    required = set(schema.get("required", ()))
    rows = [
        (member, describe_kind(field), "yes" if member in required else "no", field.get("description", ""))
        for member, field in schema["properties"].items()
    ]
    yield from table(("Member", "Kind", "Required", "Meaning"), rows)


def describe_kind(schema: Json) -> str:
    """The kind of a value in a few words; schemas of their own are links."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if values := schema.get("enum"):
        return " or ".join(f"`{value}`" for value in values)
    if "const" in schema:
        return f"`{schema['const']}`"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(map(describe_kind, schema[key])))
    kind = schema.get("type", "any JSON")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {describe_kind(schema.get('items', {}))}"
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)
