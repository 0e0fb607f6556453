"""The publisher that every broker offers: messages go in, one outcome per message comes out, nothing hangs."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from taskfleet_api.brokers.messages import Message

__all__ = ["DEFAULT_WINDOW", "FailureKind", "PublishFailure", "Publisher"]

# Messages in flight: more make larger rounds of the broker's log; from 4,096 on the rate falls again.
DEFAULT_WINDOW = 2048


class FailureKind(StrEnum):
    """Why a message is not confirmed. Only `returned` and `nacked` are sure: of the others a copy may have arrived."""

    RETURNED = "returned"  # no such queue
    NACKED = "nacked"  # the broker refused it (queue full, out of memory)
    TIMEOUT = "timeout"  # no answer within the time limit, also while the broker blocks publishers
    CONNECTION = "connection"  # not connected, or the connection was lost before the confirm


@dataclass(frozen=True, slots=True)
class PublishFailure:
    """Why one message is not confirmed; `detail` is for people and holds no credentials."""

    kind: FailureKind
    detail: str


class Publisher(Protocol):
    """Publishes with confirmation. One connection, kept open; reconnects by itself."""

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now (a broker that blocks publishers counts as connected)."""

    @property
    def blocked(self) -> str | None:
        """Why the broker takes no messages at the moment (an alarm), or None."""

    async def start(self) -> None:
        """Begin to connect; returns at once and never fails because the broker is down."""

    async def wait_connected(self, timeout_seconds: float) -> bool:
        """Wait until connected, for at most that long."""

    async def publish(self, messages: Sequence[Message]) -> list[PublishFailure | None]:
        """Send all; per message None once the broker has confirmed it, else why not. Raises nothing but cancellation.

        Fails at once when not connected. Any number of callers at the same time share the window in flight.
        """

    async def close(self) -> None:
        """Close the connection; what is still in flight fails with `connection`."""
