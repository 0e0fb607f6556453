"""The last source of RabbitMQ figures: passive declares, which need nothing but AMQP."""

import time
from collections.abc import Sequence

from pamqp import commands

from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.amqp import AmqpSession, ChannelClosedError, connect_amqp
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.statistics.model import QueueStatistics

__all__ = ["PassiveDeclares"]

# A declare occupies the queue's leader: with many queues each gets its turn.
MAX_DECLARES_PER_FETCH = 100
KEPT_SECONDS = 30.0


class PassiveDeclares:
    """Ready messages and consumers of at most 100 queues per call, round robin; others keep their last figure."""

    def __init__(self, addresses: Sequence[BrokerAddress], *, timeout_seconds: float = 2.0) -> None:
        self._addresses = addresses
        self._timeout_seconds = timeout_seconds
        self._session: AmqpSession | None = None
        self._seen: dict[str, QueueStatistics] = {}
        self._turn = 0

    async def fetch(self, queues: Sequence[str]) -> dict[str, QueueStatistics] | None:
        """None when the broker does not answer."""
        due = _round_robin(queues, self._turn)
        self._turn += len(due)
        try:
            session = await self._connect()
            for queue in due:
                await self._look(session, queue)
        except BrokerUnavailableError:
            self._seen.clear()
            return None
        oldest = time.time() - KEPT_SECONDS
        self._seen = {queue: seen for queue, seen in self._seen.items() if seen.at >= oldest}
        return dict(self._seen)

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _connect(self) -> AmqpSession:
        if self._session is None or self._session.lost.done():
            self._session = await self._connect_any()
        return self._session

    async def _connect_any(self) -> AmqpSession:
        failure = BrokerUnavailableError("no broker address")
        for address in self._addresses:
            try:
                return await connect_amqp(AmqpSession, address, self._timeout_seconds)
            except BrokerUnavailableError as error:
                failure = error
        raise failure

    async def _look(self, session: AmqpSession, queue: str) -> None:
        at = time.time()
        try:
            answer = await session.call(commands.Queue.Declare(queue=queue, passive=True), self._timeout_seconds)
        except ChannelClosedError:
            self._seen.pop(queue, None)  # no such queue, or not ours to see
            return
        self._seen[queue] = QueueStatistics(
            ready=answer.message_count,
            unacknowledged=None,
            published=None,
            acknowledged=None,
            consumers=answer.consumer_count,
            at=at,
        )


def _round_robin(queues: Sequence[str], turn: int) -> list[str]:
    if len(queues) <= MAX_DECLARES_PER_FETCH:
        return list(queues)
    start = turn % len(queues)
    return [queues[(start + step) % len(queues)] for step in range(MAX_DECLARES_PER_FETCH)]
