"""The `TaskQueuePolicy` document (taskfleet.dev/v1alpha1): a limit on the worker pods of several TaskQueues.

As with the TaskQueue, the CRD is generated from these models.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from taskfleet_core.document_model import DocumentModel, Rule
from taskfleet_core.taskqueue import Condition

__all__ = ["LabelSelector", "Requirement", "TaskQueuePolicy", "TaskQueuePolicySpec", "TaskQueuePolicyStatus"]
LabelText = Annotated[str, StringConstraints(max_length=63)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=317)]
VALUED = {"In", "NotIn"}


class Requirement(DocumentModel):
    """One condition on a label, in Kubernetes' words."""

    key: LabelName = Field(description="Name of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How it is compared.")
    values: list[LabelText] = Field(default_factory=list, description="With In and NotIn: what it is compared to.")

    RULES = (
        Rule(
            "values",
            "(self.operator in ['In', 'NotIn']) == (size(self.values) > 0)",
            lambda r: (r.operator in VALUED) == bool(r.values),
            "In and NotIn need values; Exists and DoesNotExist must have none",
        ),
    )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it; a missing label is in no set."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case _:
                return value is None


class LabelSelector(DocumentModel):
    """TaskQueues by their labels; all conditions must hold, and none selects all."""

    match_labels: dict[str, LabelText] = Field(default_factory=dict, description="Labels with exactly these values.")
    match_expressions: list[Requirement] = Field(default_factory=list, description="Further conditions on labels.")

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a TaskQueue with these labels is meant."""
        exact = all(labels.get(name) == value for name, value in self.match_labels.items())
        return exact and all(requirement.matches(labels) for requirement in self.match_expressions)


class TaskQueuePolicySpec(DocumentModel):
    """What the administrator wants."""

    max_replicas: int = Field(
        ge=0,
        le=100_000,
        description="Most worker pods of the selected TaskQueues together, with those that finish their last tasks.",
    )
    selector: LabelSelector = Field(
        default_factory=LabelSelector, description="TaskQueues of this namespace by their labels; empty: all of them."
    )


class PolicyCondition(Condition):
    """One observed aspect of a policy."""

    type: str = Field(description="Ready or Limiting.")


class TaskQueuePolicyStatus(DocumentModel):
    """What the operator sees."""

    observed_generation: int | None = Field(default=None, description="metadata.generation that was acted on last.")
    limit: int | None = Field(default=None, description="Worker pods allowed.")
    used: int | None = Field(default=None, description="Worker pods that exist or were asked for.")
    wanted: int | None = Field(default=None, description="Worker pods that the scaling rules of the TaskQueues want.")
    queues: int | None = Field(default=None, description="TaskQueues that share the limit.")
    conditions: list[PolicyCondition] = Field(
        default_factory=list, description="Ready and Limiting, each with its reason."
    )


class PolicyMetadata(DocumentModel):
    """Of the usual object metadata what is read here."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(description="Name of the TaskQueuePolicy.")
    namespace: str = Field(default="default", description="The namespace whose TaskQueues it limits.")


class TaskQueuePolicy(DocumentModel):
    """A limit on the worker pods that TaskQueues of a namespace have together, shared by priority and fairness."""

    api_version: Literal["taskfleet.dev/v1alpha1"] = Field(description="Always taskfleet.dev/v1alpha1.")
    kind: Literal["TaskQueuePolicy"] = Field(description="Always TaskQueuePolicy.")
    metadata: PolicyMetadata = Field(description="Name and namespace.")
    spec: TaskQueuePolicySpec = Field(description="What the administrator wants.")
    status: TaskQueuePolicyStatus | None = Field(default=None, description="What the operator sees.")
