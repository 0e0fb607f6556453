"""What every publisher promises, on RabbitMQ 4.3, RabbitMQ 3.10 and Valkey."""

import asyncio
from typing import Any

import pytest
from tests.integration.brokers.conftest import Broker, make_messages, publishing
from tests.support.processes import free_port
from tests.support.proxies import Proxy
from tests.support.waiting import eventually

from taskfleet_api.brokers import FailureKind, Publisher, build_message, open_publisher


async def test_confirmed_messages_are_in_the_queue_in_order(broker: Broker) -> None:
    queue = broker.make_queue()
    messages = make_messages(queue, 1000)
    async with publishing(broker.url, window=128) as publisher:
        assert await publisher.wait_connected(10)
        assert await publisher.publish(messages) == [None] * 1000
    assert await asyncio.to_thread(broker.read_ids, queue) == [message.task_id for message in messages]


async def test_a_worker_finds_what_celery_would_have_sent(broker: Broker) -> None:
    queue = broker.make_queue()
    message = build_message(
        task_id="0195d9a0-0000-7000-8000-000000000000",
        queue=queue,
        task="app.add",
        args_json='[1, "é"]',
        kwargs_json='{"k": null}',
        priority=9,
        timeout_seconds=0.1,
        expires="2100-01-01T00:00:00+00:00",
        expiration_seconds=3600.5,
        traceparent="00-a-b-01",
    )
    async with publishing(broker.url) as publisher:
        assert await publisher.wait_connected(10)
        assert await publisher.publish([message]) == [None]
    (found,) = await asyncio.to_thread(broker.read_all, queue)
    assert {key: found.headers[key] for key in message.headers} == message.headers
    assert found.payload[:2] == [[1, "é"], {"k": None}]
    assert (found.content_type, found.content_encoding) == ("application/json", "utf-8")
    assert found.properties["correlation_id"] == message.task_id
    assert found.properties["expiration"] == "3600500"
    assert found.delivery_info["routing_key"] == queue
    assert found.properties["delivery_mode"] == 2


async def test_nothing_to_publish_is_nothing_wrong(broker: Broker) -> None:
    async with publishing(broker.url) as publisher:
        assert await publisher.publish([]) == []


async def test_large_and_small_bodies_arrive_whole(broker: Broker) -> None:
    queue = broker.make_queue()
    sizes = [1, 131_000, 131_064, 131_072, 1_048_576, 10]
    messages = [
        build_message(task_id=f"t{size}", queue=queue, task="t", args_json=f'["{"x" * size}"]') for size in sizes
    ]
    async with publishing(broker.url) as publisher:
        assert await publisher.wait_connected(10)
        assert await publisher.publish(messages) == [None] * len(sizes)
    found = await asyncio.to_thread(broker.read_all, queue)
    assert [len(message.payload[0][0]) for message in found] == sizes


async def test_concurrent_callers_share_the_connection(broker: Broker) -> None:
    queue = broker.make_queue()
    calls = [make_messages(queue, size) for size in (1, 400, 3, 50, 1, 700)]
    async with publishing(broker.url, window=64) as publisher:
        assert await publisher.wait_connected(10)
        outcomes = await asyncio.gather(*(publisher.publish(messages) for messages in calls))
    assert [len(outcome) for outcome in outcomes] == [1, 400, 3, 50, 1, 700]
    assert not any(failure for outcome in outcomes for failure in outcome)
    found = await asyncio.to_thread(broker.read_ids, queue)
    assert sorted(found) == sorted(message.task_id for messages in calls for message in messages)


async def test_a_publisher_without_a_broker_starts_and_says_no(broker: Broker) -> None:
    url = broker.proxied_url(free_port())
    async with publishing(url, timeout_seconds=1, connect_timeout_seconds=1) as publisher:
        assert not await publisher.wait_connected(0.3)
        assert not publisher.connected
        (failure,) = await publisher.publish(make_messages("q", 1))
    assert failure is not None
    assert failure.kind is FailureKind.CONNECTION
    assert "guest" not in failure.detail


async def test_a_broker_killed_in_mid_window_leaves_no_message_without_an_outcome(broker: Broker) -> None:
    """Confirmed messages survive the kill, the others are reported; nothing hangs; the publisher comes back."""
    queue = broker.make_queue()
    messages = make_messages(queue, 30_000)
    await broker.settle()
    async with publishing(broker.url, window=256, timeout_seconds=5) as publisher:
        assert await publisher.wait_connected(10)
        publishing_all = asyncio.create_task(publisher.publish(messages))
        await eventually(lambda: asyncio.to_thread(broker.has_messages, queue))
        await asyncio.to_thread(broker.server.kill)
        outcomes = await asyncio.wait_for(publishing_all, 15)
        assert len(outcomes) == len(messages)
        failed = [failure for failure in outcomes if failure is not None]
        assert failed
        assert {failure.kind for failure in failed} <= {FailureKind.CONNECTION, FailureKind.TIMEOUT}

        await asyncio.to_thread(broker.server.start)
        again = make_messages(queue, 3)
        await eventually(lambda: _publishes(publisher, again), timeout_seconds=45)
    expected = {message.task_id for message, outcome in zip(messages, outcomes, strict=True) if outcome is None}
    expected |= {message.task_id for message in again}
    found: set[str] = set()

    async def found_all() -> bool:
        # A queue that has just recovered may pause for longer than one reading waits.
        found.update(await asyncio.to_thread(broker.read_ids, queue, 3.0))
        return expected <= found

    await eventually(found_all, timeout_seconds=40)


async def test_a_cut_connection_fails_what_is_in_flight_and_is_made_again(broker: Broker) -> None:
    queue = broker.make_queue()
    async with Proxy(broker.server.port) as proxy, publishing(broker.proxied_url(proxy.port)) as publisher:
        assert await publisher.wait_connected(10)
        proxy.freeze()
        in_flight = asyncio.create_task(publisher.publish(make_messages(queue, 10)))
        await eventually(lambda: proxy.held_bytes)
        proxy.cut()
        proxy.thaw()
        outcomes = await asyncio.wait_for(in_flight, 5)
        assert [outcome.kind for outcome in outcomes if outcome] == [FailureKind.CONNECTION] * 10
        assert await publisher.wait_connected(10)
        await eventually(lambda: _publishes(publisher, make_messages(queue, 2)))


async def test_a_black_hole_hits_the_time_limit(broker: Broker) -> None:
    """Packets vanish, the connection looks alive: the time limit ends the call, and a fresh connection is made."""
    queue = broker.make_queue()
    async with (
        Proxy(broker.server.port) as proxy,
        publishing(
            broker.proxied_url(proxy.port), timeout_seconds=0.5, connect_timeout_seconds=0.5, window=16
        ) as publisher,
    ):
        assert await publisher.wait_connected(10)
        proxy.freeze()
        outcomes = await asyncio.wait_for(publisher.publish(make_messages(queue, 50)), 5)
        kinds = {outcome.kind if outcome else None for outcome in outcomes}
        assert kinds <= {FailureKind.TIMEOUT, FailureKind.CONNECTION}
        assert FailureKind.TIMEOUT in kinds
        assert not publisher.connected
        proxy.cut()
        proxy.thaw()
        assert await publisher.wait_connected(10)
        await eventually(lambda: _publishes(publisher, make_messages(queue, 2)))


async def test_closing_fails_what_is_in_flight(broker: Broker) -> None:
    queue = broker.make_queue()
    async with Proxy(broker.server.port) as proxy:
        publisher = open_publisher(broker.proxied_url(proxy.port), timeout_seconds=3)
        await publisher.start()
        assert await publisher.wait_connected(10)
        proxy.freeze()
        in_flight = asyncio.create_task(publisher.publish(make_messages(queue, 10)))
        await eventually(lambda: proxy.held_bytes)
        await asyncio.wait_for(publisher.close(), 5)
        outcomes = await asyncio.wait_for(in_flight, 5)
        assert all(outcomes)
        assert not publisher.connected


async def _publishes(publisher: Publisher, messages: list[Any]) -> bool:
    return await publisher.publish(messages) == [None] * len(messages)


@pytest.mark.parametrize("url", ["http://h", "kafka://h", "nonsense"])
def test_unknown_brokers_are_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match="amqp"):
        open_publisher(url)
