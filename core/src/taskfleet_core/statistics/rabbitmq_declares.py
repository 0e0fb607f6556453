"""Passive declares: they need nothing but AMQP, are fresh at once, and tell ready messages and consumers only."""

import time
from collections.abc import Sequence

from pamqp import commands

from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.amqp import AmqpSession, ChannelClosedError, LoginRefusedError, connect_amqp
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.statistics.model import QueueStatistics, ReadProblem, Trouble

__all__ = ["MAX_DECLARES_PER_SECOND", "PassiveDeclares", "pick_in_turn"]

# A declare occupies the queue's leader: with many queues each gets its turn.
MAX_DECLARES_PER_SECOND = 100
KEPT_SECONDS = 30.0


class PassiveDeclares:
    """As a source: at most 100 queues per call, round robin; others keep their last figure."""

    is_complete = False

    def __init__(self, addresses: Sequence[BrokerAddress], *, timeout_seconds: float = 2.0) -> None:
        self.problem: ReadProblem | None = None
        self.missing: frozenset[str] = frozenset()  # of the queues of the last call: those that do not exist
        self._addresses = addresses
        self._timeout_seconds = timeout_seconds
        self._session: AmqpSession | None = None
        self._seen: dict[str, QueueStatistics] = {}
        self._turn = 0

    async def fetch(self, queues: Sequence[str]) -> dict[str, QueueStatistics] | None:
        """None when the broker does not answer."""
        due = pick_in_turn(queues, self._turn, MAX_DECLARES_PER_SECOND)
        self._turn += len(due)
        found = await self.look(due)
        if found is None:
            self._seen.clear()
            return None
        oldest = time.time() - KEPT_SECONDS
        kept = {queue: seen for queue, seen in self._seen.items() if seen.at >= oldest and queue not in self.missing}
        self._seen = kept | found
        return dict(self._seen)

    async def look(self, queues: Sequence[str]) -> dict[str, QueueStatistics] | None:
        """The figures of these queues now, without those in `missing`; None when the broker does not answer."""
        found: dict[str, QueueStatistics] = {}
        missing = set()
        try:
            session = await self._connect()
            for queue in queues:
                figures = await self._declare(session, queue)
                if figures is None:
                    missing.add(queue)
                else:
                    found[queue] = figures
        except BrokerUnavailableError as error:
            kind = Trouble.REFUSED if isinstance(error, LoginRefusedError) else Trouble.UNREACHABLE
            self.problem = ReadProblem(kind, str(error))
            self.missing = frozenset()
            return None
        self.problem = None
        self.missing = frozenset(missing)
        return found

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

    async def _declare(self, session: AmqpSession, queue: str) -> QueueStatistics | None:
        at = time.time()
        try:
            answer = await session.call(commands.Queue.Declare(queue=queue, passive=True), self._timeout_seconds)
        except ChannelClosedError as error:
            if error.code == 404:
                return None
            if error.code == 403:
                raise LoginRefusedError(f"the broker's user may not see queue {queue!r}: {error}") from error
            raise BrokerUnavailableError(f"while looking at queue {queue!r}: {error}") from error
        return QueueStatistics(
            ready=answer.message_count,
            unacknowledged=None,
            published=None,
            acknowledged=None,
            consumers=answer.consumer_count,
            at=at,
        )


def pick_in_turn(queues: Sequence[str], turn: int, count: int) -> list[str]:
    """The next `count` queues of a round robin."""
    if len(queues) <= count:
        return list(queues)
    start = turn % len(queues)
    return [queues[(start + step) % len(queues)] for step in range(count)]
