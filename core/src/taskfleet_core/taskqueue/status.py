"""`status`: what the operator sees. Local mode ignores it."""

from typing import Literal

from pydantic import Field

from taskfleet_core.document_model import DocumentModel

__all__ = ["Condition", "Messages", "TaskQueueStatus"]


class Condition(DocumentModel):
    """One observed aspect, as Kubernetes writes them."""

    type: str = Field(
        description="Ready, MetricsAvailable, ScalingActive, ScalingLimited, WorkersHealthy or BrokerUserReady."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(description="Machine-readable reason in one word.")
    message: str = Field(default="", description="The reason for people.")
    last_transition_time: str | None = Field(default=None, description="When status changed last, RFC 3339.")
    observed_generation: int | None = Field(default=None, description="metadata.generation that it was seen for.")


class Messages(DocumentModel):
    """Tasks at the broker, as counted last."""

    ready: int | None = Field(default=None, description="Tasks that wait.")
    unacknowledged: int | None = Field(default=None, description="Tasks in the hands of workers.")


class TaskQueueStatus(DocumentModel):
    """What the operator sees."""

    observed_generation: int | None = Field(default=None, description="metadata.generation that was acted on last.")
    replicas: int | None = Field(default=None, description="Replicas that exist.")
    ready_replicas: int | None = Field(default=None, description="Replicas that consume.")
    desired_replicas: int | None = Field(default=None, description="Replicas that the rule wants.")
    messages: Messages | None = Field(default=None, description="Tasks at the broker, as counted last.")
    selector: str | None = Field(default=None, description="Label selector of the worker pods.")
    last_scale_time: str | None = Field(default=None, description="When replicas changed last, RFC 3339.")
    last_scale_reason: str | None = Field(default=None, description="Why, in words.")
    conditions: list[Condition] = Field(default_factory=list, description="Observed aspects.")
