"""The whole document, and what others derive from it: queues, numbers for the scaling rule, the registry's limits."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from taskfleet_core.document_model import DocumentModel
from taskfleet_core.scaling import Pace, ScalingSpec
from taskfleet_core.taskqueue.names import ObjectName
from taskfleet_core.taskqueue.scaling import ScalingPace
from taskfleet_core.taskqueue.spec import TaskQueueSpec
from taskfleet_core.taskqueue.status import TaskQueueStatus

__all__ = ["Metadata", "TaskQueue"]


class Metadata(DocumentModel):
    """The usual object metadata; fields that Taskfleet does not read are kept out."""

    model_config = ConfigDict(extra="ignore")

    name: ObjectName = Field(description="Name of the TaskQueue and the stem of its children's names.")
    namespace: str = Field(default="default", description="Namespace. Local mode uses it in the registry only.")
    uid: str | None = Field(default=None, description="Set by Kubernetes.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels, copied to the children.")
    annotations: dict[str, str] = Field(
        default_factory=dict,
        description="Annotations. Local mode runs the workers in the folder that `taskfleet.dev/directory` names, "
        "relative to the file; default: the file's own folder.",
    )


class TaskQueue(DocumentModel):
    """A task queue and the workers that serve it."""

    api_version: Literal["taskfleet.dev/v1alpha1"] = Field(description="Always taskfleet.dev/v1alpha1.")
    kind: Literal["TaskQueue"] = Field(description="Always TaskQueue.")
    metadata: Metadata = Field(description="Name, namespace, labels and annotations.")
    spec: TaskQueueSpec = Field(description="What the user wants.")
    status: TaskQueueStatus | None = Field(default=None, description="What the operator sees; ignored in files.")

    @property
    def name(self) -> str:
        """The TaskQueue's name."""
        return self.metadata.name

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def queue_name(self) -> str:
        """The queue's name at the broker and in the API; the first one's of several."""
        return next(iter(self.queue_weights))

    @property
    def queue_weights(self) -> dict[str, int]:
        """All queues that the workers serve, with their weights; mostly one."""
        several = {queue.name: queue.weight for queue in self.spec.queues}
        return several or {self.spec.queue_name or self.metadata.name: 1}

    def build_scaling_spec(self, interval_seconds: float = 1.0) -> ScalingSpec:
        """The numbers that the scaling rule needs."""
        scaling, worker = self.spec.scaling, self.spec.worker
        return ScalingSpec(
            min_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            target_wait_seconds=scaling.target_wait_seconds,
            target_queue_depth=scaling.target_queue_depth,
            idle_seconds=scaling.idle_seconds,
            pinned_replicas=scaling.replicas,
            slots_per_replica=worker.concurrency,
            max_task_seconds=worker.max_task_seconds,
            grace_seconds=worker.effective_grace_seconds,
            interval_seconds=interval_seconds,
            scale_up=_build_pace(scaling.scale_up),
            scale_down=_build_pace(scaling.scale_down),
        )

    def build_limits(self) -> dict[str, Any]:
        """The limits as the registry carries them (see `events.QueueRegistration`)."""
        spec = self.spec
        return {
            "maxTaskSeconds": spec.worker.max_task_seconds,
            "pool": spec.worker.pool,
            "concurrency": spec.worker.concurrency,
            "deliveryLimit": spec.delivery.limit,
            "deadLetter": spec.delivery.dead_letter,
            "maxLength": spec.delivery.max_length,
            "messageTTLSeconds": spec.delivery.message_ttl_seconds,
            "minReplicas": spec.scaling.min_replicas,
            "maxReplicas": spec.scaling.max_replicas,
            "targetWaitSeconds": spec.scaling.target_wait_seconds,
        }


def _build_pace(pace: ScalingPace | None) -> Pace | None:
    return None if pace is None else Pace(pace.replicas, pace.period_seconds)
