"""The `TaskQueue` document (taskfleet.dev/v1alpha1): the one source of its fields, defaults, rules and descriptions.

Local mode loads it from files, the operator from Kubernetes; the CRD is generated from these models. Field names on
the wire are camelCase. Rules that span fields are data (`Rule`), so that the CRD can carry them as CEL.
"""

from taskfleet_core.document_model import Rule
from taskfleet_core.taskqueue.document import Metadata, TaskQueue
from taskfleet_core.taskqueue.loading import load_task_queues
from taskfleet_core.taskqueue.names import API_VERSION, GROUP, KIND, NAME_MAX_LENGTH, OBJECT_NAME_PATTERN, POLICY_KIND
from taskfleet_core.taskqueue.scaling import Scaling, ScalingPace, Schedule
from taskfleet_core.taskqueue.spec import Broker, Delivery, SecretRef, ServedQueue, TaskQueueSpec
from taskfleet_core.taskqueue.status import Condition, Messages, TaskQueueStatus
from taskfleet_core.taskqueue.worker import Worker

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "NAME_MAX_LENGTH",
    "OBJECT_NAME_PATTERN",
    "POLICY_KIND",
    "Broker",
    "Condition",
    "Delivery",
    "Messages",
    "Metadata",
    "Rule",
    "Scaling",
    "ScalingPace",
    "Schedule",
    "SecretRef",
    "ServedQueue",
    "TaskQueue",
    "TaskQueueSpec",
    "TaskQueueStatus",
    "Worker",
    "load_task_queues",
]
