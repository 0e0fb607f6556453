"""Queues on RabbitMQ: quorum queues without further arguments, their rules in a policy that can be changed later."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pamqp import commands

from taskfleet_api.brokers.queues import Degradation, QueueSpec
from taskfleet_api.brokers.rabbitmq_management import Management, PolicyRefusedError, guess_management_url
from taskfleet_core import wire
from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.amqp import AmqpSession, ChannelClosedError, connect_amqp
from taskfleet_core.errors import BrokerUnavailableError, ConflictError

__all__ = ["RabbitTopology", "build_policy"]

QUORUM = {"x-queue-type": "quorum"}
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
    """See `Topology`. Connects for each call: queues change rarely."""

    def __init__(
        self, addresses: Sequence[BrokerAddress], management_url: str | None = None, *, timeout_seconds: float = 5.0
    ) -> None:
        self._addresses = addresses
        self._timeout_seconds = timeout_seconds
        self._management = Management(
            management_url or guess_management_url(addresses[0]), addresses[0], timeout_seconds=timeout_seconds
        )

    async def ensure_queue(self, spec: QueueSpec) -> list[Degradation]:
        """See `Topology`. The dead-letter queue comes first and the policy next, so that no message falls between."""
        async with self._session() as session:
            version = session.server_version
            if spec.dead_letter:
                await self._declare(session, wire.dead_queue(spec.name))
                await self._keep_dead_letters(spec.name, version)
            degradations = await self._ensure_policy(spec)
            await self._declare(session, spec.name)
        return degradations + _missing_features(spec.name, version)

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

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AmqpSession]:
        session = await self._connect()
        try:
            yield session
        finally:
            await session.close()

    async def _connect(self) -> AmqpSession:
        failure = BrokerUnavailableError("no broker address")
        for address in self._addresses:
            try:
                return await connect_amqp(AmqpSession, address, self._timeout_seconds)
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
            raise BrokerUnavailableError(f"while declaring queue {queue!r}: {error}") from error

    async def _ensure_policy(self, spec: QueueSpec) -> list[Degradation]:
        definition = build_policy(spec)
        degradations: list[Degradation] = []
        while True:
            try:
                await self._put_policy(spec.name, definition)
            except PolicyRefusedError as error:
                refused = [key for key in definition if key in str(error)]
                if not refused:
                    return [*degradations, Degradation(spec.name, "policy", str(error))]
                for key in refused:
                    value = definition.pop(key)
                    detail = f"this RabbitMQ refuses {key} = {value!r} in a policy"
                    degradations.append(Degradation(spec.name, _FEATURES[key], detail))
            except BrokerUnavailableError as error:
                detail = f"delivery limit, dead-lettering and lengths are not set: {error}"
                return [*degradations, Degradation(spec.name, "policy", detail)]
            else:
                return degradations

    async def _put_policy(self, queue: str, definition: dict[str, Any]) -> None:
        await self._management.put_policy(wire.POLICY_PREFIX + queue, f"^{re.escape(queue)}$", definition)

    async def _keep_dead_letters(self, name: str, version: tuple[int, ...]) -> None:
        """From 4.0 on every quorum queue drops messages after 20 deliveries; dead letters must outlive any outage."""
        if version < (4,):
            return
        try:
            await self._put_policy(wire.dead_queue(name), {"delivery-limit": -1})
        except (PolicyRefusedError, BrokerUnavailableError):
            return  # said by the policy of the queue itself; the reader holds dead letters rather than return them


def _missing_features(queue: str, version: tuple[int, ...]) -> list[Degradation]:
    if version >= (4, 3):
        return []
    said = ".".join(map(str, version))
    if version >= (4,):
        detail = f"RabbitMQ {said} knows two priorities in quorum queues (0-4 and 5-9), 4.3 all"
    else:
        detail = f"RabbitMQ {said} ignores priorities in quorum queues"
    return [Degradation(queue, "priority", detail)]
