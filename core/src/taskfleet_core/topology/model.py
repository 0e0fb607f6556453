"""What a queue should be at the broker, and what a broker cannot do. Pure data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from taskfleet_core.errors import TaskfleetError

__all__ = ["Degradation", "Outcome", "QueueSpec", "Tell", "Topology", "ignore"]


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """The delivery rules of one queue; None leaves a rule to the broker's defaults."""

    name: str
    delivery_limit: int | None = 5
    dead_letter: bool = True
    max_length: int | None = None
    message_ttl_seconds: float | None = None
    consumer_timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Degradation:
    """Something asked for that this broker does not do. `feature` is stable, `detail` is for people."""

    queue: str
    feature: str
    detail: str


Outcome = list[Degradation] | TaskfleetError  # of one queue: it is there (with what cannot be had), or why it is not

Tell = Callable[[QueueSpec, Outcome], None]


def ignore(spec: QueueSpec, outcome: Outcome) -> None:
    """The listener of those who wait for the end."""


class Topology(Protocol):
    """Makes queues as they should be at a broker."""

    async def ensure_queue(self, spec: QueueSpec) -> list[Degradation]:
        """Declare the queue, its dead-letter queue and its policy; idempotent. What cannot be had is returned.

        Raises BrokerUnavailableError; ConflictError when the queue exists with another type.
        """

    async def ensure_queues(self, specs: Sequence[QueueSpec], tell: Tell = ignore) -> dict[str, Outcome]:
        """The same for many queues: looks once at what is there and writes only what differs.

        `tell` hears of each queue as soon as it is done. Raises BrokerUnavailableError when the broker cannot be
        reached at all.
        """

    async def delete_queue(self, name: str) -> None:
        """Delete the queue, its dead-letter queue and its policy; absent ones are no error."""

    async def close(self) -> None:
        """Close connections."""
