"""`spec`: what the user wants of the queue and of its messages; workers and scaling have modules of their own."""

from pydantic import Field

from taskfleet_core.document_model import DocumentModel, Rule
from taskfleet_core.taskqueue.names import MAX_QUEUES, QueueName
from taskfleet_core.taskqueue.scaling import Scaling
from taskfleet_core.taskqueue.worker import Worker

__all__ = ["Broker", "Delivery", "SecretRef", "ServedQueue", "TaskQueueSpec"]


class SecretRef(DocumentModel):
    """A key of a Secret in the TaskQueue's namespace."""

    name: str = Field(min_length=1, description="Name of the Secret.")
    key: str = Field(default="url", description="Key that holds the broker URL.")


class Broker(DocumentModel):
    """The broker of the queue."""

    secret_ref: SecretRef = Field(
        description="Secret with the broker URL; keys managementUrl and metricsUrl beside it are optional."
    )


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
