"""Looking into RabbitMQ queues from outside."""

import asyncio

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

__all__ = ["fetch_ids", "publish_raw"]


async def fetch_ids(url: str, queue: str) -> list[str]:
    """Take everything that is ready in a queue; the task id of each message."""
    connection = await aio_pika.connect(url, timeout=10)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(500)
        found = await channel.declare_queue(queue, passive=True, timeout=10)
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        count = found.declaration_result.message_count or 0
        await found.consume(arrived.put)
        ids = []
        for _ in range(count):
            message = await asyncio.wait_for(arrived.get(), 10)
            await message.ack()
            ids.append(str(message.headers["id"]))
        return ids


async def publish_raw(url: str, queue: str, body: bytes, headers: dict[str, object]) -> None:
    """Publish a message that did not come from us."""
    connection = await aio_pika.connect(url, timeout=10)
    async with connection:
        channel = await connection.channel()
        message = aio_pika.Message(body, headers=headers, content_type="application/json")  # type: ignore[arg-type]
        await channel.default_exchange.publish(message, routing_key=queue, timeout=10)
