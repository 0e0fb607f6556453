"""Queues on RabbitMQ: quorum queues without further arguments, their rules in a policy that can be changed later."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pamqp import commands

from taskfleet_core import wire
from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.amqp import AmqpSession, ChannelClosedError, LoginRefusedError, connect_amqp
from taskfleet_core.errors import BrokerUnavailableError, ConflictError, TaskfleetError
from taskfleet_core.topology.management import Management, Survey, guess_management_url
from taskfleet_core.topology.model import Degradation, Outcome, QueueSpec, Tell, ignore
from taskfleet_core.topology.ruling import DEAD_HEADER, Rules, explain_silence

__all__ = ["RabbitTopology"]

QUORUM = {"x-queue-type": "quorum"}
LANES = 4  # connections that declare at the same time; each declaration starts a Raft group at the broker
SPECS_PER_LANE = 8


class RabbitTopology:
    """See `Topology`. Connects for each call: queues change rarely, and the login itself tells of bad credentials."""

    def __init__(
        self, addresses: Sequence[BrokerAddress], management_url: str | None = None, *, timeout_seconds: float = 5.0
    ) -> None:
        self._addresses = addresses
        self._timeout_seconds = timeout_seconds
        self._management = Management(
            management_url or guess_management_url(addresses[0]), addresses[0], timeout_seconds=timeout_seconds
        )
        self._rules = Rules(self._management)

    async def ensure_queue(self, spec: QueueSpec) -> list[Degradation]:
        """See `Topology`."""
        outcome = (await self.ensure_queues([spec]))[spec.name]
        if isinstance(outcome, TaskfleetError):
            raise outcome
        return outcome

    async def ensure_queues(self, specs: Sequence[QueueSpec], tell: Tell = ignore) -> dict[str, Outcome]:
        """See `Topology`."""
        batch = _Batch(tell)
        async with self._session() as session:
            survey = await self._look(batch)
            self._sort(specs, survey, batch)
            if self._rules.are_shared and any(spec.dead_letter for spec in batch.due):
                await self._declare_dead_exchange(session)
            extra = min(LANES, len(batch.due) // SPECS_PER_LANE)
            if survey is not None:
                await self._settle_rules(session, survey, batch, lanes=1 + extra)
            await asyncio.gather(self._drain(session, batch), *(self._open_lane(batch) for _ in range(extra)))
            if survey is not None and self._rules.are_shared and not batch.has_failed:
                await self._rules.retire_own(batch.outcomes, survey)
        return batch.outcomes

    async def delete_queue(self, name: str) -> None:
        """See `Topology`."""
        both = (name, wire.dead_queue(name))
        async with self._session() as session:
            for queue in both:
                try:
                    await session.call(commands.Queue.Delete(queue=queue), self._timeout_seconds)
                except ChannelClosedError as error:
                    if error.code != 404:
                        raise BrokerUnavailableError(f"while deleting queue {queue!r}: {error}") from error
            await self._rules.remove(session, both)

    async def close(self) -> None:
        """Close connections."""
        await self._management.close()

    # -- many queues -----------------------------------------------------------------------------------------------

    async def _look(self, batch: _Batch) -> Survey | None:
        try:
            return await self._rules.fetch_survey()
        except BrokerUnavailableError as error:
            batch.silence = str(error)  # every queue is declared, and its degradations say what is wrong
            return None

    def _sort(self, specs: Sequence[QueueSpec], survey: Survey | None, batch: _Batch) -> None:
        """Settle what stands as it should; the rest is due."""
        if survey is None:
            batch.due.extend(specs)
            return
        for spec, found in zip(specs, self._rules.check(specs, survey), strict=True):
            if found is None or not self._stands(spec, survey):
                batch.due.append(spec)
            else:
                batch.settle(spec, found + _missing_features(spec.name, self._rules.version))

    def _stands(self, spec: QueueSpec, survey: Survey) -> bool:
        """Whether the queue and its dead-letter queue are there."""
        dead = wire.dead_queue(spec.name)
        wanted = [spec.name, dead] if spec.dead_letter else [spec.name]
        if any(survey.queues.get(queue, ("", None))[0] != "quorum" for queue in wanted):
            return False
        return not (spec.dead_letter and self._rules.are_shared) or (dead, spec.name) in survey.bindings

    async def _settle_rules(self, session: AmqpSession, survey: Survey, batch: _Batch, lanes: int) -> None:
        """Policies come before new queues: RabbitMQ looks at every queue when a policy changes."""
        due = list(batch.due)
        if not due:
            return
        if not self._rules.are_shared:
            waiting = deque(due)
            await asyncio.gather(*(self._drain_policies(batch, waiting) for _ in range(lanes)))
            return
        for spec in due:
            # A queue that works already has dead letters to send as soon as its policy names the exchange.
            if spec.dead_letter and spec.name in survey.queues:
                with contextlib.suppress(TaskfleetError):  # tried again, and told, when the queue is declared
                    await self._declare_dead_queue(session, spec.name)
        batch.rules = await self._rules.settle_shared(session, due)

    async def _open_lane(self, batch: _Batch) -> None:
        try:
            async with self._session() as session:
                await self._drain(session, batch)
        except BrokerUnavailableError:
            return  # the first lane goes on, or fails with the reason

    async def _drain_policies(self, batch: _Batch, waiting: deque[QueueSpec]) -> None:
        while waiting:
            spec = waiting.popleft()
            batch.rules[spec.name] = await self._rules.settle_own(spec)

    async def _drain(self, session: AmqpSession, batch: _Batch) -> None:
        while batch.due:
            spec = batch.due.popleft()
            rules = [explain_silence(spec.name, batch.silence)] if batch.silence else batch.rules[spec.name]
            try:
                await self._declare_all(session, spec)
                batch.settle(spec, rules + _missing_features(spec.name, self._rules.version))
            except TaskfleetError as error:
                batch.settle(spec, error)
                while session.lost.done() and batch.due:
                    batch.settle(batch.due.popleft(), error)

    # -- one queue -------------------------------------------------------------------------------------------------

    async def _declare_all(self, session: AmqpSession, spec: QueueSpec) -> None:
        """The dead-letter queue comes before the queue, so that no message falls between."""
        if spec.dead_letter:
            if self._rules.are_shared:
                await self._declare_dead_queue(session, spec.name)
            else:
                await self._declare(session, wire.dead_queue(spec.name))
        await self._declare(session, spec.name)

    async def _declare_dead_exchange(self, session: AmqpSession) -> None:
        declare = commands.Exchange.Declare(exchange=wire.DEAD_EXCHANGE, exchange_type="headers", durable=True)
        await self._call(session, declare, f"exchange {wire.DEAD_EXCHANGE!r}", "durable headers exchange")

    async def _declare_dead_queue(self, session: AmqpSession, queue: str) -> None:
        """Dead letters go by the queue in which they died: their own routing keys may be anything."""
        dead = wire.dead_queue(queue)
        await self._declare(session, dead)
        match = {"x-match": "all-with-x", DEAD_HEADER: queue}
        bind = commands.Queue.Bind(queue=dead, exchange=wire.DEAD_EXCHANGE, routing_key=queue, arguments=match)
        await self._call(session, bind, f"queue {dead!r} at exchange {wire.DEAD_EXCHANGE!r}", "binding")

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[AmqpSession]:
        session = await self._connect()
        self._rules.version = session.server_version
        try:
            yield session
        finally:
            await session.close()

    async def _connect(self) -> AmqpSession:
        failure = BrokerUnavailableError("no broker address")
        for address in self._addresses:
            try:
                return await connect_amqp(AmqpSession, address, self._timeout_seconds)
            except LoginRefusedError:
                raise
            except BrokerUnavailableError as error:
                failure = error
        raise failure

    async def _declare(self, session: AmqpSession, queue: str) -> None:
        declare = commands.Queue.Declare(queue=queue, durable=True, arguments=QUORUM)
        await self._call(session, declare, f"queue {queue!r}", "quorum queue")

    async def _call(self, session: AmqpSession, method: Any, what: str, kind: str) -> None:
        try:
            await session.call(method, self._timeout_seconds)
        except ChannelClosedError as error:
            if error.code in (405, 406):
                raise ConflictError(
                    f"{what} exists at the broker and is not the {kind} that is needed: {error}"
                ) from error
            if error.code == 403:
                raise LoginRefusedError(f"the broker's user may not declare {what}: {error}") from error
            raise BrokerUnavailableError(f"while declaring {what}: {error}") from error


class _Batch:
    """What several lanes work on together."""

    def __init__(self, tell: Tell) -> None:
        self.due: deque[QueueSpec] = deque()
        self.outcomes: dict[str, Outcome] = {}
        self.rules: dict[str, list[Degradation]] = {}  # of queues whose policies stand
        self.silence: str | None = None
        self.has_failed = False
        self._tell = tell

    def settle(self, spec: QueueSpec, outcome: Outcome) -> None:
        """One queue is done."""
        self.outcomes[spec.name] = outcome
        self.has_failed |= isinstance(outcome, TaskfleetError) or any(item.feature == "policy" for item in outcome)
        self._tell(spec, outcome)


def _missing_features(queue: str, version: tuple[int, ...]) -> list[Degradation]:
    if version >= (4, 3):
        return []
    said = ".".join(map(str, version))
    if version >= (4,):
        detail = f"RabbitMQ {said} knows two priorities in quorum queues (0-4 and 5-9), 4.3 all"
    else:
        detail = f"RabbitMQ {said} ignores priorities in quorum queues"
    return [Degradation(queue, "priority", detail)]
