"""From a request's body to a checked input."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from taskfleet_api.requests import get_services, receive_body
from taskfleet_api.tasks.json_text import parse_members, parse_value
from taskfleet_api.tasks.parsing import build_field_errors, escape_pointer
from taskfleet_core.errors import InvalidInputError

__all__ = ["receive_model"]

Input = TypeVar("Input", bound=BaseModel)


async def receive_model(
    request: Request, model: type[Input], limit_bytes: int | None = None
) -> tuple[Input, dict[str, bytes]]:
    """The input, and its members as the caller wrote them; `limit_bytes` None: what one submission may have.

    Raises InvalidInputError with a pointer to each wrong member, and what `receive_body` raises.
    """
    settings = get_services(request).settings
    body, _ = await receive_body(request, settings.max_item_bytes if limit_bytes is None else limit_bytes)
    members = parse_members(body, settings.max_json_depth)
    values = {name: parse_value(text, f"#/{escape_pointer(name)}") for name, text in members.items()}
    try:
        return model.model_validate(values), members
    except ValidationError as error:
        raise InvalidInputError("The input is not valid.", build_field_errors(error)) from error
