"""Queues on RabbitMQ: quorum queues without further arguments, their rules in a policy that can be changed later."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pamqp import commands

from taskfleet_core import wire
from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.amqp import AmqpSession, ChannelClosedError, LoginRefusedError, connect_amqp
from taskfleet_core.errors import BrokerUnavailableError, ConflictError, TaskfleetError
from taskfleet_core.topology.management import Management, PolicyRefusedError, Survey, guess_management_url
from taskfleet_core.topology.model import Degradation, Outcome, QueueSpec, Tell, ignore

__all__ = ["RabbitTopology", "build_policy"]

QUORUM = {"x-queue-type": "quorum"}
DEAD_POLICY = {"delivery-limit": -1}
LANES = 4  # connections that declare at the same time; each declaration starts a Raft group at the broker
SPECS_PER_LANE = 8
_FEATURES = {
    "delivery-limit": "delivery_limit",
    "dead-letter-exchange": "dead_letter",
    "dead-letter-routing-key": "dead_letter",
    "dead-letter-strategy": "dead_letter",
    "max-length": "max_length",
    "overflow": "max_length",
    "message-ttl": "message_ttl",
    "consumer-timeout": "consumer_timeout",
}


def build_policy(spec: QueueSpec) -> dict[str, Any]:
    """The policy definition of a queue.

    At-least-once dead-lettering needs `reject-publish`, which is also what a length limit should do: the publisher sees
    a nack and the record stays pending, instead of the oldest message being dropped.
    """
    policy: dict[str, Any] = {"overflow": "reject-publish"}
    if spec.delivery_limit is not None:
        policy["delivery-limit"] = spec.delivery_limit
    if spec.dead_letter:
        policy["dead-letter-exchange"] = ""
        policy["dead-letter-routing-key"] = wire.dead_queue(spec.name)
        policy["dead-letter-strategy"] = "at-least-once"
    if spec.max_length is not None:
        policy["max-length"] = spec.max_length
    if spec.message_ttl_seconds is not None:
        policy["message-ttl"] = int(spec.message_ttl_seconds * 1000)
    if spec.consumer_timeout_seconds is not None:
        policy["consumer-timeout"] = int(spec.consumer_timeout_seconds * 1000)
    return policy


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
        # What this broker refused in a policy, so that a look at what is there is not taken for drift each time.
        self._refused: set[tuple[str, Any]] = set()
        self._version: tuple[int, ...] = ()

    async def ensure_queue(self, spec: QueueSpec) -> list[Degradation]:
        """See `Topology`."""
        async with self._session() as session:
            return await self._ensure(session, spec)

    async def ensure_queues(self, specs: Sequence[QueueSpec], tell: Tell = ignore) -> dict[str, Outcome]:
        """See `Topology`."""
        batch = _Batch(tell)
        async with self._session() as session:
            survey = await self._look(batch)
            for spec in specs:
                found = None if survey is None else self._check(spec, survey)
                if found is None:
                    batch.due.append(spec)
                else:
                    batch.settle(spec, found)
            extra = min(LANES, len(batch.due) // SPECS_PER_LANE)
            # RabbitMQ looks at every queue when a policy changes: policies first, while the queues are not there.
            waiting = deque(() if batch.silence else batch.due)
            await asyncio.gather(*(self._drain_policies(batch, waiting) for _ in range(1 + extra)))
            await asyncio.gather(self._drain(session, batch), *(self._open_lane(batch) for _ in range(extra)))
        return batch.outcomes

    async def delete_queue(self, name: str) -> None:
        """See `Topology`."""
        async with self._session() as session:
            for queue in (name, wire.dead_queue(name)):
                try:
                    await session.call(commands.Queue.Delete(queue=queue), self._timeout_seconds)
                except ChannelClosedError as error:
                    if error.code != 404:
                        raise BrokerUnavailableError(f"while deleting queue {queue!r}: {error}") from error
                await self._management.delete_policy(wire.POLICY_PREFIX + queue)

    async def close(self) -> None:
        """Close connections."""
        await self._management.close()

    # -- many queues -----------------------------------------------------------------------------------------------

    async def _look(self, batch: _Batch) -> Survey | None:
        try:
            return await self._management.fetch_survey()
        except BrokerUnavailableError as error:
            batch.silence = str(error)  # every queue is declared, and its degradations say what is wrong
            return None

    def _check(self, spec: QueueSpec, survey: Survey) -> list[Degradation] | None:
        """What cannot be had of a queue that stands as it should; None when something is missing or differs."""
        name, dead = wire.POLICY_PREFIX + spec.name, wire.dead_queue(spec.name)
        definition, degradations = self._build_policy(spec)
        kind, other = survey.queues.get(spec.name, ("", None))
        if kind != "quorum" or survey.policies.get(name) != definition:
            return None
        if spec.dead_letter:
            kept = self._version < (4,) or survey.policies.get(wire.POLICY_PREFIX + dead) == DEAD_POLICY
            if survey.queues.get(dead, ("", None))[0] != "quorum" or not kept:
                return None
        if other not in (None, name):
            detail = f"the policy {other!r} applies in place of {name!r}: give it a priority below 100"
            degradations.append(Degradation(spec.name, "policy", detail))
        return degradations + _missing_features(spec.name, self._version)

    async def _open_lane(self, batch: _Batch) -> None:
        try:
            async with self._session() as session:
                await self._drain(session, batch)
        except BrokerUnavailableError:
            return  # the first lane goes on, or fails with the reason

    async def _drain_policies(self, batch: _Batch, waiting: deque[QueueSpec]) -> None:
        while waiting:
            spec = waiting.popleft()
            with contextlib.suppress(TaskfleetError):  # tried again, and told, when the queue is declared
                batch.rules[spec.name] = await self._ensure_policies(spec)

    async def _drain(self, session: AmqpSession, batch: _Batch) -> None:
        while batch.due:
            spec = batch.due.popleft()
            rules = [_explain_silence(spec.name, batch.silence)] if batch.silence else batch.rules.get(spec.name)
            try:
                batch.settle(spec, await self._ensure(session, spec, rules))
            except TaskfleetError as error:
                batch.settle(spec, error)
                while session.lost.done() and batch.due:
                    batch.settle(batch.due.popleft(), error)

    # -- one queue -------------------------------------------------------------------------------------------------

    async def _ensure(
        self, session: AmqpSession, spec: QueueSpec, rules: list[Degradation] | None = None
    ) -> list[Degradation]:
        """Policies and the dead-letter queue come before the queue, so that no message falls between.

        `rules` are the degradations of policies that were dealt with already.
        """
        if rules is None:
            rules = await self._ensure_policies(spec)
        if spec.dead_letter:
            await self._declare(session, wire.dead_queue(spec.name))
        await self._declare(session, spec.name)
        return rules + _missing_features(spec.name, self._version)

    async def _ensure_policies(self, spec: QueueSpec) -> list[Degradation]:
        if spec.dead_letter:
            await self._keep_dead_letters(spec.name)
        return await self._ensure_policy(spec)

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[AmqpSession]:
        session = await self._connect()
        if session.server_version != self._version:
            self._version = session.server_version
            self._refused.clear()
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
        try:
            await session.call(declare, self._timeout_seconds)
        except ChannelClosedError as error:
            if error.code in (405, 406):
                detail = f"queue {queue!r} exists at the broker and is not the quorum queue that is needed: {error}"
                raise ConflictError(detail) from error
            if error.code == 403:
                raise LoginRefusedError(f"the broker's user may not declare queue {queue!r}: {error}") from error
            raise BrokerUnavailableError(f"while declaring queue {queue!r}: {error}") from error

    def _build_policy(self, spec: QueueSpec) -> tuple[dict[str, Any], list[Degradation]]:
        """The definition without what this broker is known to refuse."""
        definition = build_policy(spec)
        refused = [(key, value) for key, value in definition.items() if (key, value) in self._refused]
        for key, _ in refused:
            del definition[key]
        return definition, [_explain_refusal(spec.name, key, value) for key, value in refused]

    async def _ensure_policy(self, spec: QueueSpec) -> list[Degradation]:
        while True:
            definition, degradations = self._build_policy(spec)
            try:
                await self._put_policy(spec.name, definition)
            except PolicyRefusedError as error:
                refused = [item for item in definition.items() if item[0] in str(error)]
                if not refused:
                    return [*degradations, Degradation(spec.name, "policy", str(error))]
                self._refused.update(refused)
            except BrokerUnavailableError as error:
                return [*degradations, _explain_silence(spec.name, str(error))]
            else:
                return degradations

    async def _put_policy(self, queue: str, definition: dict[str, Any]) -> None:
        await self._management.put_policy(wire.POLICY_PREFIX + queue, f"^{re.escape(queue)}$", definition)

    async def _keep_dead_letters(self, name: str) -> None:
        """From 4.0 on every quorum queue drops messages after 20 deliveries; dead letters must outlive any outage."""
        if self._version < (4,):
            return
        try:
            await self._put_policy(wire.dead_queue(name), DEAD_POLICY)
        except (PolicyRefusedError, BrokerUnavailableError):
            return  # said by the policy of the queue itself; the reader holds dead letters rather than return them


class _Batch:
    """What several lanes work on together."""

    def __init__(self, tell: Tell) -> None:
        self.due: deque[QueueSpec] = deque()
        self.outcomes: dict[str, Outcome] = {}
        self.rules: dict[str, list[Degradation]] = {}  # of queues whose policies stand
        self.silence: str | None = None
        self._tell = tell

    def settle(self, spec: QueueSpec, outcome: Outcome) -> None:
        """One queue is done."""
        self.outcomes[spec.name] = outcome
        self._tell(spec, outcome)


def _explain_silence(queue: str, why: str) -> Degradation:
    detail = (
        f"delivery limit, dead-lettering and lengths are not set: {why} (the management plugin must be reachable, "
        "by a user with the tag policymaker)"
    )
    return Degradation(queue, "policy", detail)


def _explain_refusal(queue: str, key: str, value: Any) -> Degradation:
    return Degradation(queue, _FEATURES[key], f"this RabbitMQ refuses {key} = {value!r} in a policy")


def _missing_features(queue: str, version: tuple[int, ...]) -> list[Degradation]:
    if version >= (4, 3):
        return []
    said = ".".join(map(str, version))
    if version >= (4,):
        detail = f"RabbitMQ {said} knows two priorities in quorum queues (0-4 and 5-9), 4.3 all"
    else:
        detail = f"RabbitMQ {said} ignores priorities in quorum queues"
    return [Degradation(queue, "priority", detail)]
