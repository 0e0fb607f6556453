"""Reading dead-letter queues: each message once more, with the reason why it died."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

__all__ = ["DeadLetter", "DeadLetters", "DeadReason", "NoDeadLetters"]


class DeadReason(StrEnum):
    """Why the broker gave a message up."""

    DELIVERY_LIMIT = "delivery_limit"
    EXPIRED = "expired"
    REJECTED = "rejected"
    MAXLEN = "maxlen"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead message. `count` is how often it died in this queue; `attempt` is 1 for plain Celery producers."""

    task_id: str
    task: str
    queue: str
    attempt: int
    reason: DeadReason
    body: bytes
    headers: Mapping[str, Any]
    count: int


class DeadLetters(Protocol):
    """Consumes the dead-letter queues of the given queues."""

    async def run(self, queues: Callable[[], Sequence[str]], handle: Callable[[DeadLetter], Awaitable[None]]) -> None:
        """Until cancelled: hand each dead letter to `handle`, acknowledge it after `handle` returned.

        `queues` is asked again each second. When `handle` raises, it is called again after a pause.
        Reconnects by itself; a queue that does not exist (yet) is skipped.
        """


class NoDeadLetters:
    """For brokers without dead-letter queues."""

    async def run(self, queues: Callable[[], Sequence[str]], handle: Callable[[DeadLetter], Awaitable[None]]) -> None:
        """Wait until cancelled."""
        await asyncio.Event().wait()
