"""The shapes of queues over HTTP."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "HistoryModel",
    "ManyHistoriesModel",
    "PurgeAnswer",
    "QueueList",
    "QueueModel",
    "RedriveAnswer",
    "ScalingModel",
    "TaskNameList",
    "TaskNameModel",
    "WorkerList",
]


class Answer(BaseModel):
    """Output."""

    model_config = ConfigDict(extra="forbid")


class DecisionModel(Answer):
    """How many workers a queue shall have, and why."""

    decided_at: datetime = Field(description="A quiet queue is decided about when something changes.")
    replicas: int
    cause: str = Field(description="Stable name of what ruled the decision.")
    reason: str = Field(description="The decision in one sentence.")
    acting: bool = Field(description="False: reported only (DryRun, External, paused).")
    terms: dict[str, float | None] = Field(description="The numbers of the rule, in task slots unless named otherwise.")


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
    decision: DecisionModel | None = Field(description="The last one about its workers; null where none is known.")
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


class ScalingModel(Answer):
    """Why a queue has as many workers as it has."""

    queue: str
    decision: DecisionModel | None = Field(description="null: nothing has been decided about this queue yet.")
    steps: list[str] = Field(description="The way to the decision in sentences, the outcome last.")


class HistoryPointModel(Answer):
    """What was seen in one interval; what is unknown is null and never zero."""

    at: datetime = Field(description="Beginning of the interval.")
    ready: int | None = Field(description="Messages that waited; the most of an interval above 10 s.")
    running: float | None = Field(description="Messages in workers' hands; the mean of an interval above 10 s.")
    oldest_wait_seconds: float | None = Field(
        description="How long the task that was accepted first had been at the broker; null when none was."
    )
    desired: int | None = Field(description="Workers that the last decision wanted.")
    workers: int | None = Field(description="Workers that took new tasks.")
    arrivals_per_second: float | None
    finished: int | None = Field(description="Attempts that ended in the interval.")
    failed: int | None = Field(description="Those of them that failed, died or expired.")
    wait_p50_seconds: float | None = Field(description="Of the tasks that began; within 12 %.")
    wait_p95_seconds: float | None


class ScalingChangeModel(Answer):
    """Another number of workers was wanted."""

    at: datetime = Field(description="End of the interval in which it was decided.")
    before: int
    replicas: int
    reason: str | None = Field(description="null where it was not kept.")


class SpanModel(Answer):
    """The intervals that begin in [since, until)."""

    since: datetime
    until: datetime
    step_seconds: int


class HistoryModel(SpanModel):
    """The history of a queue, the oldest first. An interval in which nobody looked is not there."""

    queue: str
    points: list[HistoryPointModel]
    decisions: list[ScalingChangeModel]


class HistoryColumnsModel(Answer):
    """A queue's figures, one for each time."""

    queue: str
    ready: list[int | None]
    finished: list[int | None]


class ManyHistoriesModel(SpanModel):
    """The history of several queues."""

    at: list[datetime] = Field(description="Beginnings of the intervals in which somebody looked.")
    items: list[HistoryColumnsModel]


class WorkerModel(Answer):
    """A living worker, by its last heartbeat."""

    name: str
    pool: str | None
    slots: int = Field(description="Tasks that it can run at once.")
    busy: int = Field(description="Tasks that it runs now.")
    consuming: bool = Field(description="False: it takes no new tasks and leaves when those in hand are done.")
    tasks: list[str] = Field(description="Ids in hand: running, or waiting for a retry of Celery's.")
    completed: int = Field(description="Tasks that it finished since its start.")
    failed: int
    started_at: datetime | None
    celery: str | None
    python: str | None


class WorkerList(Answer):
    """The workers of a queue, by name."""

    items: list[WorkerModel] | None = Field(description="null: heartbeats cannot be read now.")


class RedriveAnswer(Answer):
    """How many dead tasks were started again."""

    redriven: int
    more: bool = Field(description="Whether dead tasks are left: call again.")


class PurgeAnswer(Answer):
    """How many dead tasks were deleted."""

    purged: int
