"""The `TaskQueue` document (taskfleet.dev/v1alpha1): the one source of its fields, defaults, rules and descriptions.

Local mode loads it from files, the operator from Kubernetes; the CRD is generated from these models. Field names on
the wire are camelCase. Rules that span fields are data (`Rule`), so that the CRD can carry them as CEL.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import ConfigDict, Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from taskfleet_core.document_model import DocumentModel, Rule
from taskfleet_core.documents import load_documents
from taskfleet_core.errors import FieldError, InvalidInputError
from taskfleet_core.scaling import Pace, ScalingSpec

__all__ = [
    "API_VERSION",
    "KIND",
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

GROUP = "taskfleet.dev"
API_VERSION = "taskfleet.dev/v1alpha1"
KIND = "TaskQueue"
POLICY_KIND = "TaskQueuePolicy"  # see policy.py
MAX_QUEUES = 16  # that one pool of workers serves
NAME_MAX_LENGTH = 52  # leaves room for the suffixes of child objects in 63 characters

Pool = Literal["prefork", "threads", "gevent", "solo"]
Mode = Literal["Active", "DryRun", "External"]
OBJECT_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
QUEUE_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
APP_PATTERN = r"^[A-Za-z_]\w*(\.\w+)*(:[A-Za-z_]\w*(\.\w+)*)?$"
CRON_PATTERN = r"^\s*\S+(\s+\S+){4}\s*$"
RESERVED_PATTERN = r"^(TASKFLEET_.*|CELERY_(BROKER_((READ|WRITE)_)?URL|LOADER|RESULT_BACKEND))$"
PATTERN_FIXES = {
    OBJECT_NAME_PATTERN: "is no object name: use lower-case letters, digits and inner dashes",
    QUEUE_NAME_PATTERN: "is no queue name: begin with a letter or digit, go on with those, dots, dashes, underscores",
    APP_PATTERN: "is no Celery application: write package.module:attribute, as for celery -A",
    CRON_PATTERN: "is no cron expression: write five fields, such as '0 7 * * 1-5'",
}
ObjectName = Annotated[str, StringConstraints(pattern=OBJECT_NAME_PATTERN, max_length=NAME_MAX_LENGTH)]
QueueName = Annotated[str, StringConstraints(pattern=QUEUE_NAME_PATTERN, max_length=200)]
AppPath = Annotated[str, StringConstraints(pattern=APP_PATTERN)]
Cron = Annotated[str, StringConstraints(pattern=CRON_PATTERN)]


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


class SecretRef(DocumentModel):
    """A key of a Secret in the TaskQueue's namespace."""

    name: str = Field(min_length=1, description="Name of the Secret.")
    key: str = Field(default="url", description="Key that holds the broker URL.")


class Broker(DocumentModel):
    """The broker of the queue."""

    secret_ref: SecretRef = Field(
        description="Secret with the broker URL; keys managementUrl and metricsUrl beside it are optional."
    )


class Worker(DocumentModel):
    """What runs the tasks: any image with Celery >= 5.5, unchanged."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="Container image of the Celery app. Needed on Kubernetes; local mode runs the app as a process.",
    )
    app: AppPath = Field(description="Celery application as for `celery -A`: package.module:attribute.")
    concurrency: int = Field(default=4, ge=1, le=1000, description="Tasks that one replica runs at once (slots).")
    pool: Pool = Field(
        default="prefork",
        description="Celery pool. Hard time limits and terminate need prefork; soft time limits do not work in "
        "threads; solo runs one task at a time.",
    )
    max_task_seconds: int = Field(
        default=3600,
        ge=1,
        le=30 * 86400,
        description="Longest run of a task, seconds: the hard time limit where the pool has one; the broker's "
        "consumer time limit is this plus a margin.",
    )
    grace_period_seconds: int | None = Field(
        default=None,
        ge=0,
        le=30 * 86400,
        description="Seconds that a leaving replica may take to finish its tasks; default maxTaskSeconds.",
    )
    accept_content: list[str] = Field(
        default_factory=lambda: ["json"],
        min_length=1,
        description="Content types that workers accept, in Celery's words. Submissions over HTTP are always JSON.",
    )
    env: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Environment variables, as in a container: {name, value} or {name, valueFrom}.",
    )
    env_from: list[dict[str, Any]] = Field(
        default_factory=list, description="Sources of environment variables, as in a container. Kubernetes only."
    )
    resources: dict[str, Any] = Field(
        default_factory=dict, description="Requests and limits, as in a container. Kubernetes only."
    )
    template: dict[str, Any] = Field(
        default_factory=dict, description="Strategic-merge overlay of the pod template. Kubernetes only."
    )

    RULES = (
        Rule(
            "concurrency",
            "self.pool != 'solo' || self.concurrency == 1",
            lambda w: w.pool != "solo" or w.concurrency == 1,
            "the solo pool runs one task at a time: set concurrency to 1, or use another pool",
        ),
        Rule(
            "env",
            "self.env.all(e, has(e.name) && size(e.name) > 0)",
            lambda w: all(isinstance(e.get("name"), str) and e["name"] for e in w.env),
            "every entry needs a name: write {name: VARIABLE, value: text}",
        ),
        Rule(
            "env",
            f"self.env.all(e, !e.name.matches('{RESERVED_PATTERN}'))",
            lambda w: not any(_is_reserved(e["name"]) for e in w.env),
            "names of Taskfleet's own (TASKFLEET_*, CELERY_BROKER_*URL, CELERY_LOADER, CELERY_RESULT_BACKEND) are set "
            "by it: remove them; to use another broker set spec.broker",
        ),
    )

    @property
    def effective_grace_seconds(self) -> int:
        """The grace period that applies."""
        return self.max_task_seconds if self.grace_period_seconds is None else self.grace_period_seconds


def _is_reserved(name: str) -> bool:
    return bool(re.match(RESERVED_PATTERN, name))


class Delivery(DocumentModel):
    """What the broker promises about a message."""

    limit: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Redeliveries after lost workers before a task counts as dead (the first delivery is not counted).",
    )
    dead_letter: bool = Field(
        default=True,
        description="Keep messages past the limit in `<queue>.dead` for redrive, instead of dropping them.",
    )
    max_length: int | None = Field(
        default=None, ge=1, description="Most waiting messages; more are refused. null: no bound."
    )
    message_ttl_seconds: int | None = Field(
        default=None,
        ge=1,
        alias="messageTTLSeconds",
        description="Seconds that a message may wait before it expires. null: for ever.",
    )


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


class ServedQueue(DocumentModel):
    """One of several queues that the same workers serve."""

    name: QueueName = Field(description="Name of the queue at the broker and in the API.")
    weight: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Its share of the starts while tasks of several queues wait: with 3 and 1, three of four. What a "
        "queue does not need goes to the others.",
    )


class TaskQueueSpec(DocumentModel):
    """What the user wants."""

    queue_name: QueueName | None = Field(
        default=None, description="Name of the queue at the broker and in the API; default metadata.name. Immutable."
    )
    queues: list[ServedQueue] = Field(
        default_factory=list,
        max_length=MAX_QUEUES,
        description="Several queues instead, all served by the same workers and scaled by what waits in all of them. "
        "The delivery rules hold for each. The first one names the workers in heartbeats and metrics.",
    )
    broker: Broker | None = Field(default=None, description="Another broker; default: the operator's own.")
    worker: Worker = Field(description="What runs the tasks.")
    delivery: Delivery = Field(default_factory=Delivery, description="What the broker promises about a message.")
    scaling: Scaling = Field(default_factory=Scaling, description="How many replicas run.")

    RULES = (
        Rule(
            "queueName",
            "!has(self.queueName) || !(self.queueName.endsWith('.dead') || self.queueName.startsWith('amq.'))",
            lambda s: not (s.queue_name or "").endswith(".dead") and not (s.queue_name or "").startswith("amq."),
            "must not end in .dead (kept for dead letters) nor start with amq. (kept by RabbitMQ): choose another name",
        ),
        Rule(
            "queues",
            "!has(self.queueName) || size(self.queues) == 0",
            lambda s: s.queue_name is None or not s.queues,
            "is there beside queueName: put that name into the list, or remove one of the two",
        ),
        Rule(
            "queues",
            "self.queues.all(q, !(q.name.endsWith('.dead') || q.name.startsWith('amq.')))",
            lambda s: not any(q.name.endswith(".dead") or q.name.startswith("amq.") for q in s.queues),
            "names must not end in .dead (kept for dead letters) nor start with amq. (kept by RabbitMQ): choose others",
        ),
        Rule(
            "queues",
            "self.queues.all(q, self.queues.exists_one(other, other.name == q.name))",
            lambda s: len({queue.name for queue in s.queues}) == len(s.queues),
            "a name is there twice: remove one, and give the other the weight of both",
        ),
    )


class Condition(DocumentModel):
    """One observed aspect, as Kubernetes writes them."""

    type: str = Field(description="Ready, MetricsAvailable, ScalingActive, ScalingLimited or WorkersHealthy.")
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


def load_task_queues(path: Path | str) -> list[TaskQueue]:
    """The TaskQueues of a YAML file, in its order; documents of other kinds are passed over.

    Raises InvalidInputError with one line per fault: file, line, field and fix.
    """
    path = Path(path)
    queues: list[TaskQueue] = []
    first_line: dict[tuple[str, str], int] = {}
    for queue, line in load_documents(path, TaskQueue, group=GROUP, pattern_fixes=PATTERN_FIXES, others=(POLICY_KIND,)):
        names = [("spec.queueName", name) for name in queue.queue_weights]
        for field, value in (("metadata.name", queue.name), *names):
            earlier = first_line.setdefault((field, value), line)
            if earlier != line:
                fix = f"{value!r} is taken by the document at line {earlier}: choose another"
                pointer = "#/" + field.replace(".", "/")
                raise InvalidInputError(f"{path}:{line}: {field}: {fix}", (FieldError(pointer, fix),))
        queues.append(queue)
    return queues
