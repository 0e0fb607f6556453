"""What the operator knows of queues and workers: fresh, cheap, and told apart from what cannot be known."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from kombu import Connection
from tests.integration.operator.conftest import Keeping, build_access, make_name
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.processes import free_port
from tests.support.proxies import CountingProxy, Proxy
from tests.support.waiting import eventually

from taskfleet_core import wire
from taskfleet_core.ending import end_tasks
from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.statistics import Trouble
from taskfleet_core.topology import QueueSpec
from taskfleet_core.topology.policies import SharedRules, build_policy
from taskfleet_operator import store as store_module
from taskfleet_operator.brokers import BrokerAccess
from taskfleet_operator.polling import Poller
from taskfleet_operator.store import Store


class Polling:
    """A poller over some queues, and what it told."""

    def __init__(self, store: Store, wanted: dict[BrokerAccess, set[str]], **options: Any) -> None:
        self.told: list[str] = []
        self.missing: set[str] = set()
        self.returned: list[BrokerAccess] = []
        self.poller = Poller(
            store=store,
            wanted=lambda: wanted,
            on_numbers=lambda _broker, queues: self.told.extend(queues),
            on_missing=lambda _broker, queues: self.missing.update(queues),
            on_return=self.returned.append,
            **options,
        )

    async def wait(self, access: BrokerAccess, queue: str, **expected: Any) -> None:
        """Until the figures of a queue are as expected, or (problem=) what keeps them from being known."""

        def is_as_expected() -> bool:
            numbers = self.poller.get(access, queue)
            if "problem" in expected:
                return numbers.problem is not None and numbers.problem.kind == expected["problem"]
            figures = numbers.statistics
            return figures is not None and all(getattr(figures, key) == value for key, value in expected.items())

        await eventually(is_as_expected, timeout_seconds=30)


@asynccontextmanager
async def polling(valkey_url: str, wanted: dict[BrokerAccess, set[str]], **options: Any) -> AsyncIterator[Polling]:
    store = Store(valkey_url)
    found = Polling(store, wanted, **options)
    task = asyncio.create_task(found.poller.run())
    try:
        yield found
    finally:
        await end_tasks([task])
        await store.close()


def make_queue(server: RabbitMQ) -> str:
    name = make_name()
    server.management("PUT", f"/api/queues/%2F/{name}", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
    return name


def send(server: RabbitMQ, queue: str, count: int = 1) -> None:
    with Connection(server.url, transport_options={"confirm_publish": True}) as connection:
        for number in range(count):
            connection.Producer().publish({"n": number}, exchange="", routing_key=queue, delivery_mode=2)


def make_idle_queues(server: RabbitMQ, count: int) -> list[QueueSpec]:
    """Quorum queues with the policies that Taskfleet makes, all in one call."""
    specs = [QueueSpec(f"idle-{uuid.uuid4().hex[:10]}", dead_letter=False) for _ in range(count)]
    queue = {"vhost": "/", "durable": True, "auto_delete": False, "arguments": {"x-queue-type": "quorum"}}
    changes = SharedRules([]).plan({spec.name: build_policy(spec, shared=True) for spec in specs})
    policies = [
        {
            "name": policy.name,
            "vhost": "/",
            "pattern": policy.pattern,
            "apply-to": policy.apply_to,
            "priority": policy.priority,
            "definition": policy.definition,
        }
        for policy in changes
    ]
    server.load_definitions({"queues": [{"name": spec.name, **queue} for spec in specs], "policies": policies})
    return specs


@pytest.fixture(scope="module")
def crowded_rabbitmq() -> Iterator[RabbitMQ]:
    """A server of its own, with its default intervals: hundreds of queues would slow down every later test."""
    server = RabbitMQ("4.3")
    (server.data / "advanced.config").write_text("[].\n")
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def test_300_idle_queues_cost_at_most_two_requests_a_second(crowded_rabbitmq: RabbitMQ, valkey: Valkey) -> None:
    """Statistics and the looks for drift together; the queues are all known and all stand as they should."""
    server = crowded_rabbitmq
    specs = await asyncio.to_thread(make_idle_queues, server, 300)
    keeping = Keeping(drift_seconds=10.0)  # the default is a minute
    async with CountingProxy(server.metrics_port) as metrics, CountingProxy(server.management_port) as api:
        access = build_access(server, metrics_port=metrics.port, management_port=api.port)
        names = {spec.name for spec in specs}
        async with polling(valkey.url, {access: names}) as found:
            began = time.monotonic()
            for spec in specs:
                keeping.keeper.want(access, spec)
            await eventually(
                lambda: all(keeping.keeper.get(access, name).is_ready for name in names), timeout_seconds=60
            )
            await eventually(
                lambda: all(found.poller.get(access, name).statistics for name in names), timeout_seconds=30
            )
            await eventually(lambda: time.monotonic() - began > 13, timeout_seconds=30, interval_seconds=0.5)
            seconds, requests = time.monotonic() - began, metrics.requests + api.requests
        await keeping.keeper.close()
    assert api.requests >= 6  # two looks at least
    assert requests <= 2 * seconds


async def test_a_hint_shows_what_lagging_metrics_do_not_yet(crowded_rabbitmq: RabbitMQ, valkey: Valkey) -> None:
    """With default intervals they show a message seconds later; the hint brings a few looks within one."""
    access = build_access(crowded_rabbitmq)
    queue = await asyncio.to_thread(make_queue, crowded_rabbitmq)
    async with polling(valkey.url, {access: {queue}}, interval_seconds=60.0) as found:
        await found.wait(access, queue, ready=0)
        await asyncio.to_thread(send, crowded_rabbitmq, queue)
        found.poller.wake(queue)
        await found.wait(access, queue, ready=1)


async def test_a_hint_brings_a_look_at_once_and_the_fresh_depth(rabbitmq: RabbitMQ, valkey: Valkey) -> None:
    """Between two rounds that are a minute apart, and before the broker's own statistics show the message."""
    access, queue = build_access(rabbitmq), await asyncio.to_thread(make_queue, rabbitmq)
    async with polling(valkey.url, {access: {queue}}, interval_seconds=60.0) as found:
        await found.wait(access, queue, ready=0)
        await asyncio.to_thread(send, rabbitmq, queue)

        found.poller.wake(queue)
        await found.wait(access, queue, ready=1)
        assert queue in found.told


async def test_a_hint_travels_through_the_store(valkey: Valkey) -> None:
    """As the API publishes it."""
    store, heard = Store(valkey.url), list[str]()
    task = asyncio.create_task(store.listen(heard.append))

    async def has_heard() -> bool:
        await asyncio.to_thread(valkey.command, "PUBLISH", wire.WAKE_CHANNEL, "sleepy")
        return "sleepy" in heard

    await eventually(has_heard, interval_seconds=0.1)
    await end_tasks([task])
    await store.close()


async def test_missing_queue_refused_login_and_outage_are_told_apart(rabbitmq: RabbitMQ, valkey: Valkey) -> None:
    there = await asyncio.to_thread(make_queue, rabbitmq)
    well = build_access(rabbitmq)
    refused = build_access(rabbitmq, login="guest:s3cret", metrics_port=free_port())
    nowhere = build_access(rabbitmq, port=free_port(), management_port=free_port(), metrics_port=free_port())
    wanted = {well: {there, "never-there"}, refused: {there}, nowhere: {there}}
    async with polling(valkey.url, wanted) as found:
        await found.wait(well, there, ready=0)
        await found.wait(well, "never-there", problem=Trouble.MISSING)
        await found.wait(refused, there, problem=Trouble.REFUSED)
        await found.wait(nowhere, there, problem=Trouble.UNREACHABLE)
        assert found.missing == {"never-there"}
        assert "s3cret" not in str(found.poller.get(refused, there))
        # What cannot be read holds up nobody else.
        await asyncio.to_thread(send, rabbitmq, there, 2)
        await found.wait(well, there, ready=2)


async def test_an_outage_is_unknown_and_its_end_is_told(rabbitmq43: RabbitMQ, valkey: Valkey) -> None:
    async with (
        Proxy(rabbitmq43.port) as amqp,
        Proxy(rabbitmq43.metrics_port) as metrics,
        Proxy(rabbitmq43.management_port) as api,
    ):
        access = build_access(rabbitmq43, port=amqp.port, metrics_port=metrics.port, management_port=api.port)
        queue = await asyncio.to_thread(make_queue, rabbitmq43)
        async with polling(valkey.url, {access: {queue}}) as found:
            await found.wait(access, queue, ready=0)
            for proxy in (amqp, metrics, api):
                proxy.freeze()
            await found.wait(access, queue, problem=Trouble.UNREACHABLE)
            assert found.poller.get(access, queue).statistics is None
            assert found.returned == []
            for proxy in (amqp, metrics, api):
                proxy.thaw()
            await found.wait(access, queue, ready=0)
            assert found.returned == [access]
            assert found.poller.beat_at is not None


async def test_idle_queues_are_told_once(rabbitmq43: RabbitMQ, valkey: Valkey) -> None:
    access, queue = build_access(rabbitmq43), await asyncio.to_thread(make_queue, rabbitmq43)
    async with polling(valkey.url, {access: {queue}}, interval_seconds=0.2) as found:
        await found.wait(access, queue, ready=0)
        seen = found.poller.get(access, queue).statistics
        assert seen is not None

        def has_looked_again() -> bool:
            figures = found.poller.get(access, queue).statistics
            return figures is not None and figures.at > seen.at + 2

        told = len(found.told)
        await eventually(has_looked_again, timeout_seconds=20)
        assert len(found.told) - told <= 1  # the counters may appear after the first look


def build_beat(queue: str, host: str) -> str:
    return json.dumps(
        {"schema": 1, "queue": queue, "host": host, "busy": 1, "consuming": True, "completed": 3, "slots": 2}
    )


def beat(valkey: Valkey, queue: str, host: str) -> None:
    key = wire.worker_key(queue, host)
    valkey.command("SET", key, build_beat(queue, host), "EX", "5")
    valkey.command("ZADD", wire.WORKERS_INDEX_KEY, str(time.time()), key)


async def test_heartbeats_are_read_and_an_unreadable_store_is_not_an_idle_fleet(valkey: Valkey) -> None:
    queue = make_name()
    async with (
        Proxy(valkey.port) as proxy,
        polling(f"redis://127.0.0.1:{proxy.port}/0", {}, interval_seconds=0.2) as found,
    ):
        await asyncio.to_thread(beat, valkey, queue, "pod-a")
        (seen,) = await eventually(lambda: found.poller.get(None, queue).heartbeats, timeout_seconds=20)
        assert (seen["host"], seen["busy"]) == ("pod-a", 1)
        proxy.freeze()
        await eventually(lambda: found.poller.get(None, queue).heartbeats is None, timeout_seconds=20)
        proxy.thaw()
        await eventually(lambda: found.poller.get(None, queue).heartbeats is not None, timeout_seconds=20)


async def test_fences_need_the_store_and_lifting_them_does_not_wait_for_it(valkey: Valkey) -> None:
    async with Proxy(valkey.port) as proxy:
        store, uid = Store(f"redis://127.0.0.1:{proxy.port}/0"), make_name()
        await store.fence([uid])
        fence = wire.FENCE_KEY_PREFIX + uid
        assert await asyncio.to_thread(valkey.command, "EXISTS", fence) == b":1"
        proxy.freeze()
        with pytest.raises(StoreUnavailableError):
            await store.fence([uid])
        await store.unfence([uid])
        proxy.thaw()

        async def is_lifted() -> bool:
            await store.fetch_heartbeats()
            return await asyncio.to_thread(valkey.command, "EXISTS", fence) == b":0"

        await eventually(is_lifted, timeout_seconds=20, interval_seconds=0.2)
        await store.close()


async def test_hints_arrive_again_after_the_store_fell_silent(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is gone without a word tells nothing by itself, and neither does a server that only accepts."""
    monkeypatch.setattr(store_module, "PING_SECONDS", 0.2)
    raw, woken = redis.asyncio.Redis.from_url(valkey.url), list[str]()

    async def hears(queue: str) -> bool:
        await raw.publish(wire.WAKE_CHANNEL, queue)
        return queue in woken

    async with Proxy(valkey.port) as proxy:
        store = Store(f"redis://127.0.0.1:{proxy.port}/0")
        listening = asyncio.create_task(store.listen(woken.append))
        try:
            await eventually(lambda: hears("before"))
            proxy.freeze()
            present = proxy.accepted
            await eventually(lambda: proxy.accepted >= present + 2, timeout_seconds=30)
            proxy.cut()
            proxy.thaw()
            await eventually(lambda: hears("after"), timeout_seconds=30)
        finally:
            await end_tasks([listening])
            await store.close()
            await raw.aclose()
