"""Reading YAML files of several documents into a pydantic model, with errors that name file, line, field and fix.

Knows nothing of what the documents mean.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from taskfleet_core.errors import FieldError, InvalidInputError

__all__ = ["load_documents"]

M = TypeVar("M", bound=BaseModel)
Location = tuple[int | str, ...]


def load_documents(
    path: Path,
    model: type[M],
    *,
    group: str,
    pattern_fixes: Mapping[str, str] | None = None,
    others: Collection[str] = (),
) -> list[tuple[M, int]]:
    """Every document of `path` whose apiVersion is in `group`, with its first line; others are passed over, and so are
    those of `others`, the group's further kinds.

    Raises InvalidInputError with one line for each fault of the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read: {_first_line(error)}") from error
    found: list[tuple[M, int]] = []
    faults: list[tuple[int, str, FieldError]] = []
    kinds: list[str] = []
    for node, content in _parse(path, text):
        if not isinstance(content, dict):
            kinds.append(type(content).__name__)
            continue
        is_foreign = not str(content.get("apiVersion", "")).startswith(group + "/")
        if (is_foreign and content.get("kind") != model.__name__) or content.get("kind") in others:
            kinds.append(str(content.get("kind", "no kind")))
            continue
        try:
            found.append((model.model_validate(content), node.start_mark.line + 1))
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                location, words = _describe(detail, model, pattern_fixes or {})
                line, pointer = _find_line(node, location), "#/" + "/".join(map(str, location))
                faults.append((line, f"{_dotted(location)}: {words}", FieldError(pointer, words)))
    if faults:
        faults.sort(key=lambda fault: fault[0])
        lines = (f"{path}:{line}: {words}" for line, words, _ in faults)
        raise InvalidInputError("\n".join(lines), tuple(error for _, _, error in faults))
    if not found:
        seen = f" (found: {', '.join(kinds)})" if kinds else " (it is empty)"
        raise InvalidInputError(f"{path}: holds no {model.__name__}{seen}: add one with apiVersion {group}/v1alpha1")
    return found


def _parse(path: Path, text: str) -> Iterator[tuple[yaml.Node, Any]]:
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            content = loader.construct_document(node)
            if content is not None:
                yield node, content
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}" if mark else ""
        raise InvalidInputError(
            f"{path}{place}: is no valid YAML: {error.problem or error.context}: check indentation and colons"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path}: is no valid YAML: {_first_line(error)}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return (str(error) or type(error).__name__).splitlines()[0]


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "document"


def _find_line(node: yaml.Node, location: Location) -> int:
    """The line of the deepest part of `location` that the document has."""
    line: int = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            if pair is None:
                return line
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _describe(detail: ErrorDetails, model: type[BaseModel], pattern_fixes: Mapping[str, str]) -> tuple[Location, str]:
    """Where a fault is and what to do, in words."""
    location, context = detail["loc"], detail.get("ctx", {})
    match detail["type"]:
        case "rule":
            return (*location, context["field"]), str(context["fix"])
        case "fix":
            return location, str(context["fix"])
        case "missing":
            return location, "is required: add it"
        case "extra_forbidden":
            return location, "is no known field: " + _suggest(location, model)
        case "string_pattern_mismatch":
            fix = pattern_fixes.get(context["pattern"], f"must match {context['pattern']}")
            return location, f"{detail['input']!r} {fix}"
        case "literal_error":
            return location, f"is {detail['input']!r}, must be {context['expected']}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return location, f"must be a mapping of fields, is {_kind_of(detail['input'])}"
        case _:
            return location, f"{detail['msg'][0].lower()}{detail['msg'][1:]} (is {_shorten(detail['input'])})"


def _kind_of(value: Any) -> str:
    return "empty" if value is None else f"{_shorten(value)}"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _suggest(location: Location, model: type[BaseModel]) -> str:
    name = str(location[-1])
    parent = ".".join(part for part in location[:-1] if isinstance(part, str))
    paths = list(_walk(model.model_json_schema(by_alias=True)))
    elsewhere = [path for path in paths if path.rpartition(".")[2] == name]
    if elsewhere:
        return f"it belongs at {elsewhere[0]}"
    siblings = [path.rpartition(".")[2] for path in paths if path.rpartition(".")[0] == parent]
    near = difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"remove it; known here: {', '.join(siblings)}"


def _walk(schema: dict[str, Any], prefix: str = "", definitions: dict[str, Any] | None = None) -> Iterator[str]:
    """Dotted paths of all fields of a JSON schema; lists count as their items."""
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    for option in (schema, *schema.get("anyOf", ()), schema.get("items", {})):
        target = definitions[option["$ref"].rpartition("/")[2]] if "$ref" in option else option
        if target is not schema and (target.get("properties") or target.get("items")):
            yield from _walk(target, prefix, definitions)
    for name, child in schema.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        yield path
        yield from _walk(child, path, definitions)
