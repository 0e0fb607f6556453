"""The three brokers behind one harness, so that one suite holds for all."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue
from redis import Redis
from tests.support.brokers import REGISTER_SECONDS, RabbitMQ, Valkey

from taskfleet_api.brokers import (
    Degradation,
    Message,
    Publisher,
    QueueSpec,
    build_message,
    open_publisher,
    open_topology,
)
from taskfleet_api.brokers.redis_publisher import build_list_key

EMPTY_READS = 3


@dataclass
class Broker:
    """A broker under test: its server, and what a stock Celery worker would find in its queues."""

    name: str
    server: RabbitMQ | Valkey

    @property
    def url(self) -> str:
        return self.server.url

    def log_tails(self) -> list[tuple[str, str]]:
        return self.server.log_tails()

    def make_queue(self) -> str:
        """A fresh quorum queue (on Redis just a name)."""
        name = f"q-{uuid.uuid4().hex[:12]}"
        if isinstance(self.server, RabbitMQ):
            arguments = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
            self.server.management("PUT", f"/api/queues/%2F/{name}", arguments)
        return name

    def proxied_url(self, port: int) -> str:
        return self.url.replace(str(self.server.port), str(port))

    def read_all(self, queue: str) -> list[Any]:
        """Take every message by kombu, as a worker does; oldest first within a priority."""
        messages = []
        with Connection(self.url) as connection, connection.channel() as channel:
            bound = Queue(queue, no_declare=True)(channel)
            empty = 0
            while empty < EMPTY_READS:
                message = bound.get(no_ack=False, accept=["json"])
                if message is None:
                    empty += 1
                    continue
                empty = 0
                messages.append(message)
                message.ack()
        return messages

    def has_messages(self, queue: str) -> bool:
        if isinstance(self.server, Valkey):
            with Redis.from_url(self.url) as redis:
                return bool(redis.llen(build_list_key(queue, None)))
        with Connection(self.url) as connection, connection.channel() as channel:
            return bool(channel.queue_declare(queue, passive=True).message_count)

    async def settle(self) -> None:
        """Give a new queue time to get onto the disk."""
        if not isinstance(self.server, Valkey):
            await asyncio.sleep(REGISTER_SECONDS)

    def read_ids(self, queue: str, lull_seconds: float = 0.5) -> list[str]:
        """The task ids of everything in the queue, oldest first, until nothing has come for a while; for thousands."""
        if isinstance(self.server, Valkey):
            with Redis.from_url(self.url) as redis:
                found = redis.lrange(build_list_key(queue, None), 0, -1)
            return [json.loads(envelope)["headers"]["id"] for envelope in reversed(found)]
        ids: list[str] = []
        with Connection(self.url) as connection, connection.channel() as channel:
            bound = Queue(queue, no_declare=True)(channel)

            def take(message: Any) -> None:
                ids.append(message.headers["id"])

            # Nothing is acknowledged: what is still on its way when the reading ends goes back to the queue.
            consumer = Consumer(channel, [bound], on_message=take, auto_declare=False)
            with consumer, contextlib.suppress(TimeoutError):
                while True:
                    connection.drain_events(timeout=lull_seconds)
        return ids


@pytest.fixture(params=["rabbitmq43", "rabbitmq310", "valkey"])
def broker(request: pytest.FixtureRequest) -> Broker:
    return Broker(request.param, request.getfixturevalue(request.param))


@pytest.fixture(params=["rabbitmq43", "rabbitmq310"])
def rabbitmq(request: pytest.FixtureRequest) -> Broker:
    return Broker(request.param, request.getfixturevalue(request.param))


@pytest.fixture
def redis_broker(valkey: Valkey) -> Broker:
    return Broker("valkey", valkey)


def make_messages(queue: str, count: int, **fields: Any) -> list[Message]:
    return [
        build_message(task_id=str(uuid.uuid4()), queue=queue, task="app.add", args_json=json.dumps([number]), **fields)
        for number in range(count)
    ]


@asynccontextmanager
async def publishing(url: str, **options: Any) -> AsyncIterator[Publisher]:
    """A publisher that tries to connect, for the length of a with block."""
    publisher = open_publisher(url, **options)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close()


def fresh_name() -> str:
    """A name that needs escaping in a path and in a pattern."""
    return f"topology.{uuid.uuid4().hex[:8]}+x"


async def ensure(broker: Broker, spec: QueueSpec, management_url: str | None = None) -> list[Degradation]:
    """Declare a queue as the API does; what the broker cannot do of it."""
    server: Any = broker.server
    topology = open_topology(broker.url, management_url or server.management_url)
    try:
        return await topology.ensure_queue(spec)
    finally:
        await topology.close()


def look_up(broker: Broker, kind: str, name: str) -> Any:
    """What the management API says of an object."""
    server: Any = broker.server
    return server.management("GET", f"/api/{kind}/%2F/{name.replace('+', '%2B')}")
