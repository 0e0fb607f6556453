"""The registry's entry of a TaskQueue, as everything that announces queues writes it. Pure."""

from taskfleet_core import wire
from taskfleet_core.events import QueueRegistration
from taskfleet_core.taskqueue import TaskQueue

__all__ = ["build_registrations"]


def build_registrations(
    queue: TaskQueue, at: float, *, source: str, broker: str = "default"
) -> list[QueueRegistration]:
    """An entry for each of its queues. `source` names who announces a queue that has no uid of Kubernetes; `broker` one
    of the API's."""
    entry: QueueRegistration = {
        "schema": wire.SCHEMA_VERSION,
        "namespace": queue.metadata.namespace,
        "name": queue.name,
        "queueName": queue.queue_name,
        "uid": queue.metadata.uid or f"{source}-{queue.name}",
        "broker": broker,
        "limits": queue.build_limits(),
        "at": at,
    }
    return [{**entry, "queueName": name} for name in queue.queue_weights]
