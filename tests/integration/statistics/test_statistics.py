"""What every statistics reader promises: fresh figures, and None for what is not known."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from kombu import Connection, Queue
from redis import Redis
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.processes import free_port
from tests.support.proxies import Proxy
from tests.support.waiting import eventually

from taskfleet_core import wire
from taskfleet_core.statistics import QueueStatistics, StatisticsReader, Trouble, open_statistics


@asynccontextmanager
async def reading(url: str, **urls: Any) -> AsyncIterator[StatisticsReader]:
    reader = open_statistics(url, **urls)
    try:
        yield reader
    finally:
        await reader.close()


@pytest.fixture(params=["rabbitmq43", "rabbitmq310"])
def rabbitmq(request: pytest.FixtureRequest) -> RabbitMQ:
    server: RabbitMQ = request.getfixturevalue(request.param)
    return server


def make_queue(server: RabbitMQ) -> str:
    name = f"stat-{uuid.uuid4().hex[:8]}"
    server.management("PUT", f"/api/queues/%2F/{name}", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
    return name


def send(server: RabbitMQ, queue: str, count: int) -> None:
    with Connection(server.url) as connection:
        producer = connection.Producer()
        for number in range(count):
            producer.publish({"n": number}, exchange="", routing_key=queue, delivery_mode=2)


class Figures:
    """Asks a reader again and again until the figures of one queue are as expected."""

    def __init__(self, reader: StatisticsReader, queue: str) -> None:
        self._reader, self._queue = reader, queue

    async def fetch(self) -> QueueStatistics | None:
        return (await self._reader.fetch([self._queue]))[self._queue]

    async def wait(self, **expected: int | None) -> QueueStatistics:
        async def as_expected() -> QueueStatistics | None:
            found = await self.fetch()
            return found if found and all(getattr(found, key) == value for key, value in expected.items()) else None

        return await eventually(as_expected, timeout_seconds=20, interval_seconds=0.1)


async def test_ready_unacknowledged_and_counters_follow_the_queue(rabbitmq: RabbitMQ) -> None:
    queue = make_queue(rabbitmq)
    counts = rabbitmq.version == "4.3"
    async with reading(rabbitmq.url, metrics_url=rabbitmq.metrics_url) as reader:
        figures = Figures(reader, queue)
        await figures.wait(ready=0, unacknowledged=0, published=0 if counts else None)
        await asyncio.to_thread(send, rabbitmq, queue, 5)
        await figures.wait(ready=5, unacknowledged=0, published=5 if counts else None)
        with Connection(rabbitmq.url) as connection, connection.channel() as channel:
            bound = Queue(queue, no_declare=True)(channel)
            first = await eventually(lambda: bound.get(accept=["json"]))
            await eventually(lambda: bound.get(accept=["json"]))
            first.ack()
            found = await figures.wait(ready=3, unacknowledged=1, acknowledged=1 if counts else None)
    assert found.published == (5 if counts else None)


async def test_one_request_brings_all_queues_and_missing_ones_are_unknown(rabbitmq: RabbitMQ) -> None:
    queues = [make_queue(rabbitmq) for _ in range(5)]
    async with reading(rabbitmq.url, metrics_url=rabbitmq.metrics_url) as reader:

        async def all_known() -> bool:
            found = await reader.fetch([*queues, "never-there"])
            return found.pop("never-there") is None and all(found.values())

        await eventually(all_known, timeout_seconds=20)


async def test_a_node_that_is_down_hides_only_the_queues_that_it_leads(rabbitmq43: RabbitMQ) -> None:
    """What the other nodes tell is used; a queue that none of them names may live on the silent one."""
    queue = make_queue(rabbitmq43)
    both = f"{rabbitmq43.metrics_url},http://127.0.0.1:{free_port()}"
    nowhere = f"http://127.0.0.1:{free_port()}"
    url = rabbitmq43.url.replace(str(rabbitmq43.port), str(free_port()))
    reader = open_statistics(url, nowhere, both, closely=True)
    try:
        await Figures(reader, queue).wait(ready=0, unacknowledged=0)
        found = await reader.fetch([queue, "elsewhere"])
        assert (found[queue] is None, found["elsewhere"]) == (False, None)
        problem = reader.explain("elsewhere")
        assert problem is not None
        assert problem.kind is Trouble.UNREACHABLE
        assert reader.explain(queue) is None
    finally:
        await reader.close()


async def test_the_management_api_stands_in_for_the_metrics(rabbitmq: RabbitMQ) -> None:
    queue = make_queue(rabbitmq)
    await asyncio.to_thread(send, rabbitmq, queue, 2)
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with reading(rabbitmq.url, metrics_url=nowhere, management_url=rabbitmq.management_url) as reader:
        await Figures(reader, queue).wait(ready=2, unacknowledged=0)
        assert (await reader.fetch(["never-there"])) == {"never-there": None}


async def test_passive_declares_are_the_last_resort(rabbitmq: RabbitMQ) -> None:
    """They know ready messages and consumers; the rest stays unknown, and so does a missing queue."""
    queue = make_queue(rabbitmq)
    await asyncio.to_thread(send, rabbitmq, queue, 2)
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with reading(rabbitmq.url, metrics_url=nowhere, management_url=nowhere) as reader:
        found = await Figures(reader, queue).wait(ready=2, consumers=0)
        assert (found.unacknowledged, found.published, found.acknowledged) == (None, None, None)
        both = await reader.fetch(["never-there", queue])
        assert both["never-there"] is None
        assert both[queue] is not None


async def test_a_broker_that_goes_down_is_unknown_and_known_again_when_it_is_back(rabbitmq43: RabbitMQ) -> None:
    queue = make_queue(rabbitmq43)
    urls = {"metrics_url": rabbitmq43.metrics_url, "management_url": rabbitmq43.management_url}
    async with reading(rabbitmq43.url, **urls) as reader:
        figures = Figures(reader, queue)
        await figures.wait(ready=0)
        await asyncio.to_thread(rabbitmq43.kill)
        try:
            assert await figures.fetch() is None
        finally:
            await asyncio.to_thread(rabbitmq43.start)
        await figures.wait(ready=0)


async def test_a_frozen_broker_is_unknown_within_seconds(rabbitmq43: RabbitMQ) -> None:
    async with (
        Proxy(rabbitmq43.port) as amqp,
        Proxy(rabbitmq43.metrics_port) as metrics,
        Proxy(rabbitmq43.management_port) as management,
    ):
        url = rabbitmq43.url.replace(str(rabbitmq43.port), str(amqp.port))
        urls = {
            "metrics_url": f"http://127.0.0.1:{metrics.port}",
            "management_url": f"http://127.0.0.1:{management.port}",
        }
        for proxy in (amqp, metrics, management):
            proxy.freeze()
        async with reading(url, **urls) as reader:
            assert await asyncio.wait_for(reader.fetch(["q"]), 15) == {"q": None}


async def test_a_wrong_password_is_unknown_and_not_zero(rabbitmq43: RabbitMQ) -> None:
    url = rabbitmq43.url.replace("guest:guest", "guest:wrong")
    nowhere = f"http://127.0.0.1:{free_port()}"
    management = rabbitmq43.management_url.replace("guest:guest", "guest:wrong")
    async with reading(url, metrics_url=nowhere, management_url=management) as reader:
        assert await reader.fetch(["q"]) == {"q": None}


async def test_valkey_counts_all_priorities_and_messages_in_hand(valkey: Valkey) -> None:
    queue = f"stat-{uuid.uuid4().hex[:8]}"
    transport = {
        "unacked_key": wire.UNACKED_KEY_PREFIX + queue,
        "unacked_index_key": wire.UNACKED_INDEX_KEY_PREFIX + queue,
    }
    with Connection(valkey.url, transport_options=transport) as connection, connection.channel() as channel:
        producer = connection.Producer(channel)
        for priority in (0, 3, 6, 9, 9):
            producer.publish({}, exchange="", routing_key=queue, priority=priority)
        async with reading(valkey.url) as reader:
            figures = Figures(reader, queue)
            await figures.wait(ready=5, unacknowledged=0)
            message = Queue(queue, no_declare=True)(channel).get(accept=["json"])
            await figures.wait(ready=4, unacknowledged=1)
            message.ack()
            found = await figures.wait(ready=4, unacknowledged=0)
    assert (found.published, found.acknowledged, found.consumers) == (None, None, None)


@pytest.fixture(scope="module", params=["4.3", "3.10"])
def lagging(request: pytest.FixtureRequest) -> Iterator[RabbitMQ]:
    """A server with its default intervals, as one that is not ours has them: its metrics lag by four seconds."""
    server = RabbitMQ(request.param)
    (server.data / "advanced.config").write_text("[].\n")
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def measure_lag(reader: StatisticsReader, queue: str, publish: Any) -> float:
    """The longest of some times between a publication and a look that shows it, looking four times a second."""
    worst = 0.0
    for count in range(1, 5):
        await asyncio.to_thread(publish)
        began = time.monotonic()
        while True:
            found = (await reader.fetch([queue]))[queue]
            if found is not None and found.ready == count:
                break
            assert time.monotonic() - began < 10, found
            await asyncio.sleep(0.25)
        worst = max(worst, time.monotonic() - began)
        await asyncio.sleep(0.3)
    return worst


async def test_depth_is_not_older_than_a_second_with_one_second_intervals(rabbitmq: RabbitMQ) -> None:
    queue = make_queue(rabbitmq)
    async with reading(rabbitmq.url, metrics_url=rabbitmq.metrics_url, closely=True) as reader:
        await Figures(reader, queue).wait(ready=0)
        assert await measure_lag(reader, queue, lambda: send(rabbitmq, queue, 1)) < 1.0


async def test_depth_is_not_older_than_a_second_where_the_metrics_lag_and_the_lag_is_told(lagging: RabbitMQ) -> None:
    """Ready messages are asked of the queue; the other figures are as old as the broker's intervals."""
    queue = make_queue(lagging)
    async with reading(lagging.url, metrics_url=lagging.metrics_url, closely=True) as reader:
        await Figures(reader, queue).wait(ready=0)
        assert await measure_lag(reader, queue, lambda: send(lagging, queue, 1)) < 1.0

        async def is_told() -> bool:
            await asyncio.to_thread(send, lagging, queue, 1)
            found = await Figures(reader, queue).fetch()
            return found is not None and found.is_stale

        await eventually(is_told, timeout_seconds=20, interval_seconds=0.5)


async def test_depth_on_valkey_is_of_the_moment(valkey: Valkey) -> None:
    queue = f"stat-{uuid.uuid4().hex[:8]}"

    def publish() -> None:
        with Redis.from_url(valkey.url) as client:
            client.lpush(queue, "{}")

    async with reading(valkey.url, closely=True) as reader:
        assert await measure_lag(reader, queue, publish) < 0.25


async def test_a_key_of_another_type_is_unknown_on_valkey(valkey: Valkey) -> None:
    with Redis.from_url(valkey.url) as redis:
        redis.set("no-list", json.dumps(1))
        redis.lpush("a-list", "x")
    async with reading(valkey.url) as reader:
        found = await reader.fetch(["no-list", "a-list"])
    assert found["no-list"] is None
    assert found["a-list"] is not None


async def test_valkey_down_or_frozen_is_unknown(valkey: Valkey) -> None:
    async with reading(f"redis://127.0.0.1:{free_port()}/0") as reader:
        assert await reader.fetch(["q"]) == {"q": None}
    async with reading(valkey.url) as reader:
        assert (await reader.fetch(["q"]))["q"] is not None
        valkey.pause()
        try:
            assert await asyncio.wait_for(reader.fetch(["q"]), 10) == {"q": None}
        finally:
            valkey.resume()
        known = await eventually(lambda: Figures(reader, "q").fetch())
        assert known.ready == 0


@pytest.mark.parametrize("url", ["http://h", "nonsense"])
def test_unknown_brokers_are_refused(url: Any) -> None:
    with pytest.raises(ValueError, match="amqp"):
        open_statistics(url)
