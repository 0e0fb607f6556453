"""`spec.scaling`: how many replicas run, and when other bounds hold."""

from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from taskfleet_core.document_model import DocumentModel, Rule
from taskfleet_core.taskqueue.names import Cron

__all__ = ["Mode", "Scaling", "ScalingPace", "Schedule"]

Mode = Literal["Active", "DryRun", "External"]


class Schedule(DocumentModel):
    """Bounds that hold from each firing of a cron expression until another schedule of the queue fires."""

    cron: Cron = Field(description="Five fields: minute, hour, day of month, month, day of week.")
    time_zone: str = Field(default="UTC", description="IANA time zone of the expression, such as Europe/Berlin.")
    min_replicas: int | None = Field(default=None, ge=0, description="minReplicas from then on; null: the queue's own.")
    max_replicas: int | None = Field(default=None, ge=1, description="maxReplicas from then on; null: the queue's own.")

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, cron: str) -> str:
        try:
            CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise PydanticCustomError("fix", "{fix}", {"fix": f"{cron!r} is no cron expression: {error}"}) from error
        return cron

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            fix = f"{name!r} is no time zone: write an IANA name, such as Europe/Berlin"
            raise PydanticCustomError("fix", "{fix}", {"fix": fix}) from error
        return name

    RULES = (
        Rule(
            "minReplicas",
            "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            lambda s: s.min_replicas is None or s.max_replicas is None or s.min_replicas <= s.max_replicas,
            "must not exceed maxReplicas: lower it or raise maxReplicas",
        ),
    )


class ScalingPace(DocumentModel):
    """The most that replicas may change in one direction, as the Pods policies of a HorizontalPodAutoscaler."""

    replicas: int = Field(ge=1, le=10000, description="Most replicas that come or go within any period.")
    period_seconds: int = Field(default=60, ge=1, le=3600, description="Length of the period, seconds.")


class Scaling(DocumentModel):
    """How many replicas run."""

    min_replicas: int = Field(default=0, ge=0, description="Fewest replicas; 0 lets an idle queue go to zero.")
    max_replicas: int = Field(default=50, ge=1, le=10000, description="Most replicas.")
    target_wait_seconds: float = Field(
        default=5, gt=0, le=86400, description="The promise to keep: seconds that a task may wait for a free slot."
    )
    target_queue_depth: int | None = Field(
        default=None,
        ge=1,
        description="The classic rule instead: messages (waiting and in hand) per replica. null: targetWaitSeconds.",
    )
    idle_seconds: int = Field(default=60, ge=0, description="Seconds without any task before the last replica goes.")
    replicas: int | None = Field(
        default=None,
        ge=0,
        le=10000,
        description="Set: a fixed number of replicas, whatever the rule and the bounds say; the target of "
        "`kubectl scale`. null: scale by the rule.",
    )
    priority: int = Field(
        default=0,
        ge=-1000,
        le=1000,
        description="Where a TaskQueuePolicy limits several TaskQueues, those of higher priority get pods first.",
    )
    scale_up: ScalingPace | None = Field(
        default=None, description="Bound of the pace upwards; minReplicas is reached at once. null: as fast as needed."
    )
    scale_down: ScalingPace | None = Field(
        default=None, description="Bound of the pace downwards; maxReplicas holds at once. null: as soon as possible."
    )
    schedules: list[Schedule] = Field(default_factory=list, description="Other bounds at certain times.")
    mode: Mode = Field(
        default="Active",
        description="Active; DryRun: decide and report, change nothing; External: HPA or KEDA scale the Deployment.",
    )

    RULES = (
        Rule(
            "minReplicas",
            "self.minReplicas <= self.maxReplicas",
            lambda s: s.min_replicas <= s.max_replicas,
            "must not exceed maxReplicas: lower it or raise maxReplicas",
        ),
    )
