"""Consuming dead-letter queues on RabbitMQ, with aio-pika: rare messages, so comfort goes before speed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from taskfleet_api.brokers.dead_letters import DeadLetter, DeadReason
from taskfleet_core import wire
from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.ending import end_tasks
from taskfleet_core.tls import build_tls_context

__all__ = ["RabbitDeadLetters", "read_dead_letter"]

PREFETCH = 100
REFRESH_SECONDS = 1.0
RECONNECT_SECONDS = 1.0
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)

_log = structlog.get_logger()
Handle = Callable[[DeadLetter], Awaitable[None]]


def read_dead_letter(queue: str, body: bytes, headers: Mapping[str, Any], correlation_id: str | None) -> DeadLetter:
    """What a message of `<queue>.dead` says about itself. Pure; foreign messages give empty texts."""
    deaths = headers.get("x-death") or []
    death: Mapping[str, Any] = next((entry for entry in deaths if entry.get("queue") == queue), {})
    reason = death.get("reason") or headers.get("x-last-death-reason") or headers.get("x-first-death-reason")
    attempt = headers.get(wire.HEADER_ATTEMPT)
    return DeadLetter(
        task_id=str(headers.get("id") or correlation_id or ""),
        task=str(headers.get("task") or ""),
        queue=queue,
        attempt=attempt if isinstance(attempt, int) else 1,
        reason=DeadReason(reason) if reason in set(DeadReason) else DeadReason.REJECTED,
        body=body,
        headers=headers,
        count=int(death.get("count", 1)),
    )


class RabbitDeadLetters:
    """See `DeadLetters`."""

    def __init__(self, addresses: Sequence[BrokerAddress], *, timeout_seconds: float = 5.0) -> None:
        self._addresses = addresses
        self._timeout_seconds = timeout_seconds

    async def run(self, queues: Callable[[], Sequence[str]], handle: Handle) -> None:
        """See `DeadLetters`."""
        turn = 0
        while True:
            address = self._addresses[turn % len(self._addresses)]
            turn += 1
            try:
                connection = await aio_pika.connect(
                    address.url,
                    timeout=self._timeout_seconds,
                    ssl_context=build_tls_context(address) if address.tls else None,
                )
                try:
                    await self._consume(connection, queues, handle)
                finally:
                    await _close_quietly(connection, self._timeout_seconds)
            except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError) as error:
                _log.warning("dead_letters.connection_lost", broker=address.label, error=str(error))
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _consume(
        self, connection: AbstractConnection, queues: Callable[[], Sequence[str]], handle: Handle
    ) -> None:
        """Keep one consumer per queue until the connection is lost."""
        readers: dict[str, asyncio.Task[None]] = {}
        try:
            while connection.connected.is_set():  # `is_closed` stays false when the peer goes away
                wanted = set(queues())
                for name in readers.keys() - wanted:
                    readers.pop(name).cancel()
                for name in wanted - {name for name, reader in readers.items() if not reader.done()}:
                    readers[name] = asyncio.create_task(self._read(connection, name, handle))
                await asyncio.sleep(REFRESH_SECONDS)
        finally:
            await end_tasks(readers.values())

    async def _read(self, connection: AbstractConnection, name: str, handle: Handle) -> None:
        """Hand on the dead letters of one queue, until something goes wrong; the caller starts it again."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                channel = await connection.channel()
                await channel.set_qos(prefetch_count=PREFETCH)
                dead = await channel.get_queue(wire.dead_queue(name), ensure=True)
            try:
                async with dead.iterator() as messages:
                    async for message in messages:
                        await _handle_until_done(name, message, handle)
            finally:
                if not channel.is_closed:
                    async with asyncio.timeout(self._timeout_seconds):
                        await channel.close()
        except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError) as error:
            _log.debug("dead_letters.queue_unreadable", queue=name, error=str(error))


async def _handle_until_done(name: str, message: AbstractIncomingMessage, handle: Handle) -> None:
    """Hold the message and try again, rather than return it: returning counts as a delivery, and those are limited."""
    letter = read_dead_letter(name, message.body, message.headers, message.correlation_id)
    turn = 0
    while True:
        try:
            await handle(letter)
        except Exception as error:  # the handler's trouble must not lose a dead letter
            _log.warning("dead_letters.handler_failed", queue=name, task_id=letter.task_id, error=str(error))
            await asyncio.sleep(RETRY_SECONDS[min(turn, len(RETRY_SECONDS) - 1)])
            turn += 1
        else:
            await message.ack()
            return


async def _close_quietly(connection: AbstractConnection, timeout_seconds: float) -> None:
    try:
        async with asyncio.timeout(timeout_seconds):
            await connection.close()
    except (AMQPError, OSError, TimeoutError, RuntimeError):
        return
