"""The shapes of queues over HTTP."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PurgeAnswer", "QueueList", "QueueModel", "RedriveAnswer", "TaskNameList", "TaskNameModel"]


class Answer(BaseModel):
    """Output."""

    model_config = ConfigDict(extra="forbid")


class QueueModel(Answer):
    """A queue; what is unknown is null and never zero."""

    name: str
    namespace: str | None
    task_queue: str | None = Field(description="Name of the TaskQueue.")
    broker: str
    scale_only: bool = Field(description="On a broker that this API does not publish to.")
    ready: int | None = Field(description="Messages that wait.")
    unacknowledged: int | None = Field(description="Messages in workers' hands.")
    workers: int | None
    consuming: int | None = Field(description="Workers that take new tasks.")
    slots: int | None = Field(description="Tasks that the workers can run at once.")
    busy: int | None = Field(description="Tasks that run now.")
    arrivals_per_second: float | None
    completions_per_second: float | None
    records: dict[str, int] | None = Field(description="Recorded tasks in each state that is not an ordinary end.")
    limits: dict[str, Any]
    degradations: list[dict[str, str]] = Field(description="What was asked for and the broker cannot do.")


class QueueList(Answer):
    """All queues, by name."""

    items: list[QueueModel]


class TaskNameModel(Answer):
    """A task that the workers of a queue announced."""

    name: str
    parameters: dict[str, Any] | None = Field(description="JSON schema of its arguments, where it is known.")


class TaskNameList(Answer):
    """The tasks of a queue; empty until its first workers announced theirs."""

    items: list[TaskNameModel]


class RedriveAnswer(Answer):
    """How many dead tasks were started again."""

    redriven: int
    more: bool = Field(description="Whether dead tasks are left: call again.")


class PurgeAnswer(Answer):
    """How many dead tasks were deleted."""

    purged: int
