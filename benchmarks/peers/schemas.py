"""What both peers take and answer."""

from typing import Any

from pydantic import BaseModel

__all__ = ["Submission", "Submitted"]


class Submission(BaseModel):
    """The fields of Taskfleet's own submission, so that both sides read the same bytes."""

    queue: str
    task: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Submitted(BaseModel):
    """The usual answer."""

    task_id: str
    status: str
