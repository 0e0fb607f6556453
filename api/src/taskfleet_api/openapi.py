"""The OpenAPI document: what FastAPI derives from the routes, with our bodies and our problems."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from taskfleet_api.authentication import OPEN_PATHS
from taskfleet_api.keys.schemas import NewKeyInput
from taskfleet_api.requests import ProblemModel, problem_responses
from taskfleet_api.schedules.schemas import NewScheduleInput, ScheduleInput
from taskfleet_api.tasks.schemas import JSON_VALUE_SCHEMA, BatchItem, TaskSubmission

__all__ = ["DESCRIPTION", "build_openapi"]

DESCRIPTION = """\
Durable tasks over HTTP for any Celery app.

An answer `2xx` to a submission means that its record is committed: the task will run at least once or end in a visible
final state. States: `scheduled`, `pending`, `queued`, `running`, `retrying`, then `succeeded`, `failed`, `cancelled`,
`expired` or `dead`. Errors are problem documents (RFC 9457); `errors` points at each wrong place of the input.
"""
REFERENCE = "#/components/schemas/{model}"
# Bodies that are read without FastAPI, and the problem, which no route returns as a model.
EXTRA_MODELS = (TaskSubmission, BatchItem, ScheduleInput, NewScheduleInput, NewKeyInput)


def build_openapi(app: FastAPI, root_path: str, *, secured: bool = False) -> dict[str, Any]:
    """The document; `secured` when requests need a key. Made once, on first use."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        description=DESCRIPTION,
        routes=app.routes,
        tags=app.openapi_tags,
        servers=[{"url": root_path or "/"}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["JsonValue"] = JSON_VALUE_SCHEMA
    _, inputs = models_json_schema([(model, "validation") for model in EXTRA_MODELS], ref_template=REFERENCE)
    _, outputs = models_json_schema([(ProblemModel, "serialization")], ref_template=REFERENCE)
    for name, schema in {**inputs["$defs"], **outputs["$defs"]}.items():
        schemas.setdefault(name, schema)
    _remove_validation_error(document)
    if secured:
        _add_security(document)
    return document


def _add_security(document: dict[str, Any]) -> None:
    """The two ways to send the key, and the answer to those who do not."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <key>`"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The key alone."},
    }
    for path, operations in document["paths"].items():
        if path in OPEN_PATHS:
            continue
        for operation in operations.values():
            operation["security"] = [{"bearer": []}, {"apiKey": []}]
            operation["responses"]["401"] = problem_responses(401)[401] | {
                "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}}
            }
            operation["responses"]["403"] = problem_responses(403)[403]


def _list_operations(paths: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The operations of these paths, and of the callbacks that they make."""
    for operations in paths.values():
        for operation in operations.values():
            yield operation
            for callback in operation.get("callbacks", {}).values():
                yield from _list_operations(callback)


def _remove_validation_error(document: dict[str, Any]) -> None:
    """FastAPI documents its own shape of a 422 where a route has none of ours; we never send it."""
    for operation in _list_operations(document["paths"]):
        answers = operation.get("responses", {})
        content = answers.get("422", {}).get("content", {})
        if "HTTPValidationError" in str(content.get("application/json", "")):
            content.pop("application/json")
            if not content:
                answers.pop("422")
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
