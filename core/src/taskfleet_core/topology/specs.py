"""From a TaskQueue to what its queue should be at the broker. Pure."""

from taskfleet_core.taskqueue import TaskQueue
from taskfleet_core.topology.model import QueueSpec

__all__ = ["CONSUMER_TIMEOUT_MARGIN_SECONDS", "build_queue_specs"]

# The worker's own hard limit comes first. Everybody who declares queues adds the same, so that none undoes the other.
CONSUMER_TIMEOUT_MARGIN_SECONDS = 300


def build_queue_specs(queue: TaskQueue) -> list[QueueSpec]:
    """The delivery rules of each queue of a TaskQueue."""
    delivery = queue.spec.delivery
    return [
        QueueSpec(
            name=name,
            delivery_limit=delivery.limit,
            dead_letter=delivery.dead_letter,
            max_length=delivery.max_length,
            message_ttl_seconds=delivery.message_ttl_seconds,
            consumer_timeout_seconds=queue.spec.worker.max_task_seconds + CONSUMER_TIMEOUT_MARGIN_SECONDS,
        )
        for name in queue.queue_weights
    ]
