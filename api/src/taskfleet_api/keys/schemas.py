"""The shapes of API keys over HTTP."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from taskfleet_api.tasks.schemas import Answer, Model, Moment
from taskfleet_core.scopes import KeyScope

__all__ = ["KEY_EXAMPLE", "NAME_PATTERN", "KeyList", "KeyModel", "NewKeyInput", "NewKeyModel"]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
QUEUES_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}\*?$|^\*$"
KEY_EXAMPLE: dict[str, Any] = {"name": "shop", "scopes": ["submit", "read"], "queues": ["shop-*"]}

QueuePattern = Annotated[str, StringConstraints(pattern=QUEUES_PATTERN)]


class NewKeyInput(Model):
    """A key to make."""

    name: str = Field(pattern=NAME_PATTERN, description="Name of the holder, for records and the audit log.")
    scopes: list[Annotated[KeyScope, Field(strict=False)]] = Field(
        min_length=1,
        max_length=len(KeyScope),
        description=f"{', '.join(KeyScope)}; admin includes the others.",
    )
    queues: list[QueuePattern] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Queues that exist for the holder: names, or beginnings that end in `*`. null: all.",
    )
    expires_at: Moment | None = Field(default=None, description="When the key stops working. null: never.")


class KeyModel(Answer):
    """A key without its secret."""

    name: str
    scopes: list[KeyScope]
    queues: list[str] | None
    created_at: datetime
    expires_at: datetime | None


class NewKeyModel(KeyModel):
    """A new key."""

    key: str = Field(description="The key itself. It is shown this once.")


class KeyList(Answer):
    """All keys."""

    items: list[KeyModel]
