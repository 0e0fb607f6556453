"""The queues that exist for the caller of the request in hand."""

from taskfleet_api.access import get_caller
from taskfleet_api.background import KnownQueue, QueueDirectory
from taskfleet_api.tasks.model import UnknownQueueError

__all__ = ["find_queue"]


def find_queue(directory: QueueDirectory, name: str) -> KnownQueue:
    """A queue that the caller sees, as far as that was prepared. Raises UnknownQueueError, which names those."""
    queue, caller = directory.get(name), get_caller()
    if queue is None or not caller.sees(name):
        raise UnknownQueueError(name, caller.select(directory.names()))
    return queue
