"""Every dead letter is handed on with its reason, and none is lost before it was handled."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from kombu import Connection, Queue
from tests.integration.brokers.conftest import Broker, ensure, fresh_name, look_up, make_messages, publishing
from tests.support.waiting import eventually, eventually_sync

from taskfleet_api.brokers import DeadLetter, DeadReason, Message, QueueSpec, build_message, open_dead_letters
from taskfleet_core.ending import end_tasks


@asynccontextmanager
async def reading(broker: Broker, queues: Callable[[], Sequence[str]], handle: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(open_dead_letters(broker.url).run(queues, handle))
    try:
        yield
    finally:
        async with asyncio.timeout(10):
            await end_tasks([task])
        assert task.cancelled()


async def publish(broker: Broker, messages: list[Message]) -> None:
    async with publishing(broker.url) as publisher:
        assert await publisher.wait_connected(10)
        assert await publisher.publish(messages) == [None] * len(messages)


def refuse(broker: Broker, queue: str, times: int, *, requeue: bool) -> int:
    """Take one message after the other and refuse it; returns how often there was one."""
    refused = 0
    with Connection(broker.url) as connection, connection.channel() as channel:
        bound = Queue(queue, no_declare=True)(channel)
        while refused < times:
            message = bound.get(no_ack=False, accept=["json"])
            if message is None:
                break
            message.reject(requeue=requeue)
            refused += 1
    return refused


async def test_a_rejected_message(rabbitmq: Broker) -> None:
    queue, letters = fresh_name(), Letters()
    await ensure(rabbitmq, QueueSpec(queue))
    message = build_message(task_id="rejected-1", queue=queue, task="app.add", attempt=3)
    await publish(rabbitmq, [message])
    await eventually(lambda: asyncio.to_thread(refuse, rabbitmq, queue, 1, requeue=False))
    async with reading(rabbitmq, lambda: [queue], letters.handle):
        letter = await eventually(letters.first)
    assert (letter.task_id, letter.task, letter.queue) == ("rejected-1", "app.add", queue)
    assert (letter.attempt, letter.reason, letter.count) == (3, DeadReason.REJECTED, 1)
    assert letter.body == message.body
    assert {key: letter.headers[key] for key in message.headers} == message.headers


async def test_a_message_past_its_delivery_limit(rabbitmq: Broker) -> None:
    """A limit of n gives n + 1 runs."""
    queue, letters = fresh_name(), Letters()
    await ensure(rabbitmq, QueueSpec(queue, delivery_limit=2))
    await asyncio.to_thread(wait_for_policy, rabbitmq, queue)
    await publish(rabbitmq, make_messages(queue, 1))
    refused = 0

    async def is_exhausted() -> bool:
        nonlocal refused
        refused += await asyncio.to_thread(refuse, rabbitmq, queue, 1, requeue=True)
        return letters.first() is not None

    async with reading(rabbitmq, lambda: [queue], letters.handle):
        await eventually(is_exhausted, timeout_seconds=15)
    letter = letters.first()
    assert letter is not None
    assert letter.reason is DeadReason.DELIVERY_LIMIT
    assert refused == 3


async def test_an_expired_message(rabbitmq: Broker) -> None:
    queue, letters = fresh_name(), Letters()
    await ensure(rabbitmq, QueueSpec(queue))
    await publish(rabbitmq, make_messages(queue, 1, expiration_seconds=0.2))
    async with reading(rabbitmq, lambda: [queue], letters.handle):
        letter = await eventually(letters.first, timeout_seconds=20)
    assert letter.reason is DeadReason.EXPIRED


async def test_a_message_dropped_for_length_by_a_policy_of_others(rabbitmq: Broker) -> None:
    queue, letters = fresh_name(), Letters()
    server: Any = rabbitmq.server
    await ensure(rabbitmq, QueueSpec(queue))
    definition = {
        "max-length": 1,
        "overflow": "drop-head",
        "dead-letter-exchange": "",
        "dead-letter-routing-key": queue + ".dead",
    }
    pattern = "^" + queue.replace(".", "\\.").replace("+", "\\+") + "$"
    body = {"pattern": pattern, "definition": definition, "priority": 500}
    server.management("PUT", f"/api/policies/%2F/{queue.replace('+', '%2B')}-drop", body)
    try:
        await asyncio.to_thread(wait_for_policy, rabbitmq, queue, f"{queue}-drop")

        async def one_was_dropped() -> DeadLetter | None:
            await publish(rabbitmq, make_messages(queue, 3))
            return letters.first()

        async with reading(rabbitmq, lambda: [queue], letters.handle):
            letter = await eventually(one_was_dropped, interval_seconds=0.3)
        assert letter is not None
        assert letter.reason is DeadReason.MAXLEN
    finally:
        server.management("DELETE", f"/api/policies/%2F/{queue.replace('+', '%2B')}-drop")


async def test_a_letter_whose_handler_fails_comes_again(rabbitmq: Broker) -> None:
    queue, letters = fresh_name(), Letters(failures=2)
    await ensure(rabbitmq, QueueSpec(queue))
    await publish(rabbitmq, make_messages(queue, 1))
    await eventually(lambda: asyncio.to_thread(refuse, rabbitmq, queue, 1, requeue=False))
    async with reading(rabbitmq, lambda: [queue], letters.handle):
        await eventually(letters.first)
    assert letters.calls == 3


async def test_a_letter_that_was_not_handled_is_there_for_the_next_reader(rabbitmq: Broker) -> None:
    queue, stuck, letters = fresh_name(), Letters(failures=1000), Letters()
    await ensure(rabbitmq, QueueSpec(queue))
    await publish(rabbitmq, make_messages(queue, 1))
    await eventually(lambda: asyncio.to_thread(refuse, rabbitmq, queue, 1, requeue=False))
    async with reading(rabbitmq, lambda: [queue], stuck.handle):
        await eventually(lambda: stuck.calls)
    async with reading(rabbitmq, lambda: [queue], letters.handle):
        await eventually(letters.first)


async def test_queues_may_come_late_and_the_broker_may_go_away(rabbitmq43: Any) -> None:
    rabbitmq = Broker("rabbitmq43", rabbitmq43)
    first, second, letters = fresh_name(), fresh_name(), Letters()
    await ensure(rabbitmq, QueueSpec(first))
    async with reading(rabbitmq, lambda: [first, second, "never-there"], letters.handle):
        await ensure(rabbitmq, QueueSpec(second))
        await asyncio.to_thread(rabbitmq43.restart)
        for queue in (first, second):
            await publish(rabbitmq, make_messages(queue, 1))
            await eventually(partial(asyncio.to_thread, refuse, rabbitmq, queue, 1, requeue=False))
        await eventually(lambda: {letter.queue for letter in letters.handled} == {first, second}, timeout_seconds=30)


async def test_messages_of_strangers_are_handed_on_too(rabbitmq: Broker) -> None:
    queue, letters = fresh_name(), Letters()
    await ensure(rabbitmq, QueueSpec(queue))
    with Connection(rabbitmq.url) as connection:
        connection.Producer().publish("hello", exchange="", routing_key=queue + ".dead")
    async with reading(rabbitmq, lambda: [queue], letters.handle):
        letter = await eventually(letters.first)
    assert (letter.task_id, letter.task, letter.attempt) == ("", "", 1)


async def test_redis_has_none() -> None:
    task = asyncio.create_task(open_dead_letters("redis://127.0.0.1:1/0").run(lambda: ["q"], Letters().handle))
    done, _ = await asyncio.wait((task,), timeout=0.05)
    assert not done
    await end_tasks([task])


def wait_for_policy(broker: Broker, queue: str, policy: str = "taskfleet") -> None:
    """Until the policy that applies has a name that begins like this."""
    eventually_sync(
        lambda: (look_up(broker, "queues", queue).get("policy") or "").startswith(policy), timeout_seconds=15
    )


class Letters:
    """A handler that keeps what it was given, after failing so many times."""

    def __init__(self, failures: int = 0) -> None:
        self.handled: list[DeadLetter] = []
        self.calls = 0
        self._failures = failures

    async def handle(self, letter: DeadLetter) -> None:
        self.calls += 1
        if self.calls <= self._failures:
            raise RuntimeError("not now")
        self.handled.append(letter)

    def first(self) -> DeadLetter | None:
        return self.handled[0] if self.handled else None


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskfleet_api.brokers.rabbitmq_dead_letters.RETRY_SECONDS", (0.05,))
