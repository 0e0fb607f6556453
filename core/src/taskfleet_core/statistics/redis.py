"""Queue figures of a Redis/Valkey broker as kombu keeps them: four lists per queue and a hash of messages in hand."""

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from taskfleet_core import wire
from taskfleet_core.statistics.model import QueueStatistics, ReadProblem, Trouble

__all__ = ["PRIORITY_STEPS", "RedisStatistics", "build_priority_key", "build_priority_keys"]

# kombu's own, and its separator between queue and step.
PRIORITY_STEPS = (0, 3, 6, 9)
PRIORITY_SEPARATOR = "\x06\x16"


def build_priority_key(queue: str, step: int) -> str:
    """The list that kombu uses for one of its priority steps."""
    return f"{queue}{PRIORITY_SEPARATOR}{step}" if step else queue


def build_priority_keys(queue: str) -> list[str]:
    """All lists of a queue, in the order in which kombu serves them."""
    return [build_priority_key(queue, step) for step in PRIORITY_STEPS]


class RedisStatistics:
    """See `StatisticsReader`. A key that does not exist is an empty queue here: Redis knows no other."""

    def __init__(self, url: str, *, timeout_seconds: float = 2.0) -> None:
        self._timeout_seconds = timeout_seconds
        self._redis = Redis.from_url(
            url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            max_connections=2,
        )
        self._problem: ReadProblem | None = None
        self._unreadable: frozenset[str] = frozenset()

    async def fetch(self, queues: Sequence[str], hinted: Collection[str] = ()) -> dict[str, QueueStatistics | None]:
        """One round trip for all queues; always fresh."""
        if not queues:
            return {}
        at = time.time()
        try:
            async with asyncio.timeout(self._timeout_seconds), self._redis.pipeline(transaction=False) as pipe:
                for queue in queues:
                    for key in build_priority_keys(queue):
                        pipe.llen(key)
                    pipe.hlen(wire.UNACKED_KEY_PREFIX + queue)
                answers = await pipe.execute(raise_on_error=False)
        except (AuthenticationError, NoPermissionError) as error:
            self._problem = ReadProblem(Trouble.REFUSED, f"the Redis broker refuses the login: {error}")
            return dict.fromkeys(queues)
        except (TimeoutError, RedisError, OSError) as error:
            self._problem = ReadProblem(Trouble.UNREACHABLE, f"the Redis broker does not answer: {_name(error)}")
            return dict.fromkeys(queues)
        self._problem = None
        width = len(PRIORITY_STEPS) + 1
        found = {queue: _read(answers[index * width : (index + 1) * width], at) for index, queue in enumerate(queues)}
        self._unreadable = frozenset(queue for queue, figures in found.items() if figures is None)
        return found

    def explain(self, queue: str) -> ReadProblem | None:
        """See `StatisticsReader`."""
        if self._problem is None and queue in self._unreadable:
            return ReadProblem(Trouble.UNREADABLE, f"a key of queue {queue!r} is of a type that no broker makes")
        return self._problem

    async def close(self) -> None:
        """Close connections."""
        await self._redis.aclose()


def _name(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _read(answers: Sequence[Any], at: float) -> QueueStatistics | None:
    if not all(isinstance(answer, int) for answer in answers):
        return None  # an error in place of a number, e.g. a key of another type
    *ready, unacknowledged = answers
    return QueueStatistics(
        ready=sum(ready),
        unacknowledged=unacknowledged,
        published=None,
        acknowledged=None,
        consumers=None,
        at=at,
    )
