"""The filters of a listing of tasks, as query parameters."""

from typing import Annotated

from fastapi import Depends, Query

from taskfleet_api.records import TaskFilter
from taskfleet_api.tasks.parameters import Label, Moment
from taskfleet_api.tasks.schemas import NAME_MAX
from taskfleet_core.errors import FieldError, InvalidInputError
from taskfleet_core.states import TaskState

__all__ = ["Wanted"]


def parse_filter(
    queue: Annotated[str | None, Query(min_length=1, max_length=NAME_MAX, description="Only of this queue.")] = None,
    state: Annotated[list[TaskState], Query(description="Only in one of these states.")] = [],  # noqa: B006
    task: Annotated[str | None, Query(min_length=1, max_length=NAME_MAX, description="Only with this name.")] = None,
    metadata: Annotated[
        list[Label], Query(max_length=10, description="Only with these top-level metadata: `key=value`, all of them.")
    ] = [],  # noqa: B006
    created_after: Annotated[Moment, Query(description="Only created at or after this time.")] = None,
    created_before: Annotated[Moment, Query(description="Only created before this time.")] = None,
) -> TaskFilter:
    """The filter that the query describes. Raises InvalidInputError."""
    _refuse_unstorable(queue=queue, task=task)
    return TaskFilter(
        queue=queue,
        states=frozenset(state),
        task=task,
        labels=tuple((key, value) for key, _, value in (text.partition("=") for text in metadata)),
        created_after=created_after,
        created_before=created_before,
    )


def _refuse_unstorable(**names: str | None) -> None:
    """Nothing with such a name can exist, and PostgreSQL refuses to be asked for NUL characters."""
    for name, value in names.items():
        if value is not None and "\0" in value:
            raise InvalidInputError("The input is not valid.", (FieldError(f"#/query/{name}", "NUL is not allowed."),))


Wanted = Annotated[TaskFilter, Depends(parse_filter)]
