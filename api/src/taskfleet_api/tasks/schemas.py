"""The shapes of tasks over HTTP, as pydantic models: the precise path of validation, the source of OpenAPI."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from taskfleet_api.bodies import KEY_MAX
from taskfleet_api.callbacks.policy import MAX_URL_LENGTH
from taskfleet_api.records.model import CallbackState
from taskfleet_core.states import TaskState

__all__ = [
    "JSON_VALUE_SCHEMA",
    "MOST_METADATA",
    "OBJECT_SCHEMA",
    "WITHOUT_NUL",
    "BatchAnswer",
    "BatchItem",
    "CallbackBody",
    "CallbackUrl",
    "Metadata",
    "RetryRules",
    "SubmittedTaskModel",
    "TaskModel",
    "TaskPage",
    "TaskSubmission",
]

NAME_MAX = 255
DAY_SECONDS = 86_400
YEAR_SECONDS = 366 * DAY_SECONDS
LONGEST_DELAY_SECONDS = 10 * YEAR_SECONDS
LONGEST_TASK_SECONDS = 30 * DAY_SECONDS
MOST_ATTEMPTS = 1000
NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f-\x9f]+$"
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}")


def require_moment(value: object) -> object:
    """Refuse what pydantic would also take for a time: numbers, and numbers as text."""
    if value is not None and (not isinstance(value, str) or _DATE_TIME.match(value) is None):
        raise ValueError("must be an RFC 3339 date and time as text, such as 2026-01-31T12:00:00Z")
    return value


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from error


def _to_integer(value: object) -> object:
    """In JSON Schema 2.0 is an integer too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Priority = Annotated[int, Field(ge=0, le=9), BeforeValidator(_to_integer)]
Attempts = Annotated[int, Field(ge=1, le=MOST_ATTEMPTS), BeforeValidator(_to_integer)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_MAX, pattern=NO_CONTROL_CHARACTERS)]
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(require_moment), AfterValidator(_to_utc)]
CallbackUrl = Annotated[str, Field(min_length=1, max_length=MAX_URL_LENGTH, json_schema_extra={"format": "uri"})]
WITHOUT_NUL = r"^[^\x00]*$"
OBJECT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "propertyNames": {"pattern": WITHOUT_NUL},
    "additionalProperties": {"$ref": "#/components/schemas/JsonValue"},
}
# A component of its own, because it is recursive.
JSON_VALUE_SCHEMA: dict[str, Any] = {
    "title": "JsonValue",
    "description": "Any JSON value whose strings hold no NUL character.",
    "anyOf": [
        {"type": ["null", "boolean", "number"]},
        {"type": "string", "pattern": WITHOUT_NUL},
        {"type": "array", "items": {"$ref": "#/components/schemas/JsonValue"}},
        OBJECT_SCHEMA,
    ],
}
Json = Annotated[Any, WithJsonSchema({"$ref": "#/components/schemas/JsonValue"}, mode="validation")]
JsonObject = Annotated[dict[str, Json], WithJsonSchema(OBJECT_SCHEMA, mode="validation")]
# Each member that can be searched for is a row of its own.
MOST_METADATA = 64
Metadata = Annotated[
    dict[str, Json],
    Field(max_length=MOST_METADATA),
    WithJsonSchema({**OBJECT_SCHEMA, "maxProperties": MOST_METADATA}, mode="validation"),
]


class Model(BaseModel):
    """Input: unknown members are refused, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Answer(BaseModel):
    """Output."""

    model_config = ConfigDict(extra="forbid")


class RetryRules(Model):
    """How often the platform runs the task again after a failure, once Celery's own retries ended."""

    max_attempts: Attempts = Field(description="Attempts in all, the first one included.")
    backoff_seconds: float = Field(
        default=1.0, ge=0, le=LONGEST_DELAY_SECONDS, description="Pause before the second attempt; it doubles."
    )
    max_backoff_seconds: float = Field(default=300.0, ge=0, le=LONGEST_DELAY_SECONDS, description="Longest pause.")
    jitter: bool = Field(default=True, description="Draw each pause between zero and its length.")


SUBMISSION_EXAMPLE: dict[str, Any] = {
    "queue": "thumbnails",
    "task": "thumbs.tasks.render",
    "args": ["s3://pictures/42.jpg"],
    "kwargs": {"width": 320},
    "metadata": {"customer": "acme"},
    "retry": {"max_attempts": 3, "backoff_seconds": 2},
    "ttl_seconds": 3600,
}


def _at_most_one(schema: dict[str, Any]) -> None:
    """Say in JSON Schema what the validator below says: of each pair, one is absent or null."""
    schema["allOf"] = [
        {"anyOf": [{"properties": {name: {"type": "null"}}} for name in pair]}
        for pair in (("eta", "countdown_seconds"), ("expires_at", "ttl_seconds"))
    ]


class TaskSubmission(Model):
    """A task to run. `args` and `kwargs` reach the task as they are written here."""

    model_config = ConfigDict(json_schema_extra=_at_most_one)

    queue: Name = Field(description="Name of the queue.")
    task: Name = Field(description="Name under which the workers registered the task.")
    args: list[Json] = Field(default=[], description="Positional arguments.")
    kwargs: JsonObject = Field(default={}, description="Named arguments.")
    metadata: Metadata | None = Field(
        default=None, description="Anything of the caller's; top-level texts, numbers and booleans can be searched for."
    )
    priority: Priority | None = Field(default=None, description="0 to 9, 9 first, where the broker has them.")
    eta: Moment | None = Field(default=None, description="Not before this time.")
    countdown_seconds: float | None = Field(
        default=None, ge=0, le=LONGEST_DELAY_SECONDS, description="Not before so many seconds from now."
    )
    expires_at: Moment | None = Field(default=None, description="Not to be started after this time.")
    ttl_seconds: float | None = Field(
        default=None, gt=0, le=LONGEST_DELAY_SECONDS, description="Not to be started after so many seconds from now."
    )
    retry: RetryRules | None = Field(default=None, description="What the platform does after a failure.")
    timeout_seconds: float | None = Field(
        default=None, gt=0, le=LONGEST_TASK_SECONDS, description="Hard limit of the run time."
    )
    callback_url: CallbackUrl | None = Field(
        default=None,
        description="Called with the finished task: a signed POST, repeated until it is answered with 2xx.",
    )

    @model_validator(mode="after")
    def _check_pairs(self) -> "TaskSubmission":
        if self.eta is not None and self.countdown_seconds is not None:
            raise ValueError("give either eta or countdown_seconds")
        if self.expires_at is not None and self.ttl_seconds is not None:
            raise ValueError("give either expires_at or ttl_seconds")
        return self


IdempotencyKey = Annotated[str, Field(min_length=1, max_length=KEY_MAX, pattern=r"^[\x21-\x7e]+$")]


class BatchItem(TaskSubmission):
    """A task of a batch, which may carry its own idempotency key."""

    idempotency_key: IdempotencyKey | None = Field(
        default=None, description="As the Idempotency-Key header of a single submission."
    )


class SubmittedTaskModel(Answer):
    """An accepted task. Its record is committed."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    state: TaskState
    queue: str
    task: str
    attempt: int
    created_at: str = Field(json_schema_extra={"format": "date-time"})


class AttemptModel(Answer):
    """One attempt of a task."""

    attempt: int
    state: TaskState
    retries: int
    published_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    result: Json
    error: Json
    runtime_seconds: float | None
    deliveries: int


class TaskListItem(Answer):
    """A task: what was submitted, where it stands and what came of it."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    queue: str
    task: str
    state: TaskState
    attempt: int = Field(description="Counts from 1: redrive, retry and the platform's own retries start the next one.")
    max_attempts: int
    retries: int = Field(description="Celery's own retries within the attempt.")
    args: list[Json] | None
    kwargs: dict[str, Json] | None
    metadata: dict[str, Json] | None
    priority: int | None
    eta: datetime | None
    expires_at: datetime | None
    due_at: datetime | None = Field(description="When a scheduled or retrying task runs next.")
    retry: RetryRules | None
    timeout_seconds: float | None
    created_at: datetime
    published_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    worker: str | None
    result: Json
    result_omitted_bytes: int | None = Field(description="Size of a result that was too large to keep.")
    error: Json = Field(description="type, message and traceback of a failure.")
    progress: Json
    runtime_seconds: float | None
    traceparent: str | None
    origin: Literal["api", "celery", "schedule"] | str
    cancel_requested: bool
    deliveries: int


class CallbackModel(Answer):
    """How the callback of a task stands."""

    url: str
    state: CallbackState = Field(description="waiting for the end, pending (to be delivered), delivered or given_up.")
    attempt: int = Field(description="Attempt of the task whose end is told; 0 before the first.")
    tries: int = Field(description="Calls made.")
    due_at: datetime | None = Field(description="When it is called next.")
    updated_at: datetime
    last_status: int | None = Field(description="Status of the receiver's last answer.")
    last_error: str | None = Field(description="What was wrong with the last call.")


class CallbackDelivery(Answer):
    """One call of a receiver."""

    id: str = Field(description="As the webhook-id header: the same for all calls about one end of the task.")
    attempt: int = Field(description="Counts the calls from 1.")


class CallbackBody(Answer):
    """What a receiver is sent."""

    type: str = Field(description="`task.` and the state.", examples=["task.succeeded"])
    timestamp: datetime = Field(description="When the task ended.")
    delivery: CallbackDelivery
    data: dict[str, Json] = Field(description="The task as `GET /tasks/{id}` shows it, without args and kwargs.")


class TaskModel(TaskListItem):
    """A task with its callback and all its attempts."""

    callback: CallbackModel | None
    attempts: list[AttemptModel] = Field(description="Every attempt, the current one last.")


class TaskPage(Answer):
    """One page, newest first."""

    items: list[TaskListItem]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last one.")


class BatchItemAnswer(Answer):
    """What became of one item: the members of an accepted task, or a problem."""

    status: int
    id: str | None = None
    state: TaskState | None = None
    queue: str | None = None
    task: str | None = None
    attempt: int | None = None
    created_at: datetime | None = None
    replayed: bool | None = None
    problem: dict[str, Any] | None = None


class BatchAnswer(Answer):
    """What became of a batch, item by item in the order of the request."""

    accepted: int
    refused: int
    items: list[BatchItemAnswer]
