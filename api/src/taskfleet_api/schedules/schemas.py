"""The shapes of periodic tasks over HTTP."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from taskfleet_api.tasks.schemas import (
    LONGEST_DELAY_SECONDS,
    LONGEST_TASK_SECONDS,
    YEAR_SECONDS,
    Answer,
    CallbackUrl,
    Json,
    JsonObject,
    Metadata,
    Model,
    Name,
    Priority,
    RetryRules,
)

__all__ = ["NewScheduleInput", "ScheduleId", "ScheduleInput", "ScheduleModel", "SchedulePage"]

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
ScheduleId = Annotated[str, Field(pattern=ID_PATTERN, max_length=128)]

SCHEDULE_EXAMPLE: dict[str, Any] = {
    "queue": "reports",
    "task": "reports.tasks.daily",
    "kwargs": {"format": "pdf"},
    "cron": "0 6 * * 1-5",
    "time_zone": "Europe/Berlin",
    "catch_up": "last",
}


def _exactly_one(schema: dict[str, Any]) -> None:
    """Say in JSON Schema what the validator below says: one of the two is given and not null."""
    given = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in ("cron", "interval_seconds")
    ]
    schema["oneOf"] = given


class ScheduleInput(Model):
    """When to submit, and the task that each tick submits."""

    model_config = ConfigDict(json_schema_extra=_exactly_one)

    queue: Name
    task: Name
    args: list[Json] = Field(default=[])
    kwargs: JsonObject = Field(default={})
    metadata: Metadata | None = None
    priority: Priority | None = None
    retry: RetryRules | None = None
    timeout_seconds: float | None = Field(default=None, gt=0, le=LONGEST_TASK_SECONDS)
    ttl_seconds: float | None = Field(default=None, gt=0, le=LONGEST_DELAY_SECONDS)
    callback_url: CallbackUrl | None = Field(default=None, description="As that of a submission.")
    cron: str | None = Field(
        default=None,
        min_length=9,
        max_length=200,
        description="Minute, hour, day of month, month, day of week; a sixth field in front means seconds.",
        json_schema_extra={"format": "cron"},
    )
    interval_seconds: float | None = Field(default=None, ge=1, le=YEAR_SECONDS, description="Seconds between ticks.")
    time_zone: str = Field(
        default="UTC",
        min_length=1,
        max_length=64,
        description="IANA name of the zone that cron follows.",
        json_schema_extra={"format": "time-zone"},
    )
    catch_up: Literal["skip", "last", "all"] = Field(
        default="last", description="Missed ticks: run none, the last one, or all (the newest 1,000)."
    )
    enabled: bool = Field(default=True, description="A disabled schedule does not tick.")

    @model_validator(mode="after")
    def _check_rule(self) -> "ScheduleInput":
        if (self.cron is None) == (self.interval_seconds is None):
            raise ValueError("give either cron or interval_seconds")
        return self


class NewScheduleInput(ScheduleInput):
    """A schedule to create; without an id it gets one."""

    id: ScheduleId | None = None


class ScheduleModel(Answer):
    """A periodic task."""

    id: str
    queue: str
    task: str
    args: list[Json]
    kwargs: dict[str, Json]
    metadata: dict[str, Json] | None
    priority: int | None
    retry: RetryRules | None
    timeout_seconds: float | None
    ttl_seconds: float | None
    callback_url: str | None
    cron: str | None
    interval_seconds: float | None
    time_zone: str
    catch_up: str
    enabled: bool
    next_at: datetime | None
    last_tick_at: datetime | None
    last_task_id: str | None
    created_at: datetime
    updated_at: datetime


class SchedulePage(Answer):
    """Schedules by id."""

    items: list[ScheduleModel]
    next_after: str | None = Field(description="Pass it as `after` for the next page; null on the last one.")
