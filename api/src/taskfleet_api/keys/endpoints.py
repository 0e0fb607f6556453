"""`/api/v1/keys`."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from taskfleet_api.keys.schemas import KEY_EXAMPLE, NAME_PATTERN, KeyList, NewKeyInput, NewKeyModel
from taskfleet_api.receiving import receive_model
from taskfleet_api.records import KeyRecord
from taskfleet_api.requests import Json, ServicesOf, problem_responses
from taskfleet_api.tasks.rendering import render_moment

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/keys", tags=["keys"])
MAX_BODY_BYTES = 65536
NO_STORE = {"Cache-Control": "no-store"}


@router.get(
    "",
    operation_id="listKeys",
    summary="List the API keys",
    response_class=Json,
    responses={200: {"model": KeyList}, **problem_responses(409)},
)
async def list_keys(services: ServicesOf) -> Json:
    """All keys by name, without their secrets."""
    return Json(msgspec.json.encode({"items": [_document(record) for record in await services.keys.list()]}))


@router.post(
    "",
    operation_id="createKey",
    summary="Create an API key",
    status_code=201,
    response_class=Json,
    responses={201: {"model": NewKeyModel}, **problem_responses(400, 408, 409, 413, 415, 422)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/NewKeyInput"},
                    "examples": {"key": {"value": KEY_EXAMPLE}},
                }
            },
        }
    },
)
async def create_key(request: Request, services: ServicesOf) -> Json:
    """Make a key; the answer is the only place where it can be read."""
    wanted, _ = await receive_model(request, NewKeyInput, MAX_BODY_BYTES)
    record, secret = await services.keys.create(wanted)
    return Json(msgspec.json.encode({**_document(record), "key": secret}), 201, NO_STORE)


@router.delete(
    "/{name}",
    operation_id="revokeKey",
    summary="Revoke an API key",
    status_code=204,
    responses=problem_responses(404, 409, 422),
)
async def revoke_key(
    name: Annotated[str, Path(pattern=NAME_PATTERN, examples=["shop"])], services: ServicesOf
) -> Response:
    """Make a key worthless: here at once, at other replicas within five seconds."""
    await services.keys.revoke(name)
    return Response(status_code=204)


def _document(record: KeyRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "scopes": list(record.scopes),
        "queues": None if record.queues is None else list(record.queues),
        "created_at": render_moment(record.created_at),
        "expires_at": render_moment(record.expires_at),
    }
