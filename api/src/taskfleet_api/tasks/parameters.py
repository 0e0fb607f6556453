"""What the endpoints of tasks take in path, query and headers."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Header, Path
from pydantic import AfterValidator, BeforeValidator, StringConstraints

from taskfleet_api.bodies import KEY_PATTERN
from taskfleet_api.tasks.schemas import require_moment

__all__ = ["IdempotencyKey", "Label", "Moment", "Prefer", "TaskId"]

LABEL = r"^[^=\x00-\x1f]{1,255}=[^\x00-\x1f]{0,255}$"

TaskId = Annotated[UUID, Path(description="Id of the task.", examples=["01920000-0000-7000-8000-000000000000"])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=KEY_PATTERN,
        description="Repeats of a request with the same key and body get the first answer for 24 hours.",
        examples=["order-4711"],
    ),
]
Prefer = Annotated[
    str | None,
    Header(description="`wait=N`: answer with the finished task if it ends within N seconds.", examples=["wait=1"]),
]


def _to_utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is None:
        return moment and moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from error


Label = Annotated[str, StringConstraints(pattern=LABEL)]
Moment = Annotated[datetime | None, BeforeValidator(require_moment), AfterValidator(_to_utc)]
