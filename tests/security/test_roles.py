"""What a role may not do at broker and store, it cannot: each is tried with the users that the chart makes."""

import asyncio
import contextlib

import aio_pika
import aio_pika.exceptions
import httpx
import pytest
import redis.exceptions
from pamqp import commands
from tests.support.hardened import HardenedStack

from taskfleet_api.live import LiveStore
from taskfleet_api.live.rates import RateUse
from taskfleet_core import wire
from taskfleet_core.addresses import parse_amqp_url
from taskfleet_core.amqp import AmqpSession, ChannelClosedError, connect_amqp
from taskfleet_core.ending import end_tasks
from taskfleet_operator.store import Store

pytestmark = pytest.mark.timeout(60, func_only=True)

READS = commands.Basic.Get(queue="jobs")
READS_DEAD = commands.Basic.Get(queue="jobs.dead")
EMPTIES = commands.Queue.Purge(queue="jobs")
DELETES_DEAD = commands.Queue.Delete(queue="jobs.dead")
UNBINDS = commands.Queue.Unbind(queue="jobs.dead", exchange=wire.DEAD_EXCHANGE, routing_key="jobs")
LOCKS = commands.Queue.Declare(queue="taskfleet.policies", exclusive=True)


async def call(hardened: HardenedStack, role: str, method: object) -> None:
    (address,) = parse_amqp_url(hardened.broker.url_of(role, hardened.authority))
    session = await connect_amqp(AmqpSession, address, 10)
    try:
        await session.call(method)
    finally:
        await session.close()


@pytest.mark.parametrize(
    ("role", "method"),
    [
        pytest.param("api", READS, id="the API takes no task"),
        pytest.param("api", EMPTIES, id="the API empties no queue of tasks"),
        pytest.param("operator", READS, id="the operator takes no task"),
        pytest.param("operator", EMPTIES, id="the operator empties no queue"),
        pytest.param("worker", READS_DEAD, id="workers take no dead letter"),
        pytest.param("worker", DELETES_DEAD, id="workers delete no dead letters"),
        pytest.param("worker", UNBINDS, id="workers do not redirect dead letters"),
        pytest.param("worker", LOCKS, id="workers do not hold up the policies"),
    ],
)
def test_the_broker_refuses(hardened: HardenedStack, role: str, method: object) -> None:
    with pytest.raises(ChannelClosedError, match="ACCESS_REFUSED"):
        asyncio.run(call(hardened, role, method))


def test_the_operator_publishes_nothing(hardened: HardenedStack) -> None:
    async def publish() -> None:
        url = hardened.broker.url_of("operator")
        async with await aio_pika.connect(url, ssl_context=hardened.context, timeout=10) as connection:
            channel = await connection.channel()
            await channel.default_exchange.publish(aio_pika.Message(b"{}"), routing_key="jobs", timeout=10)

    with pytest.raises(aio_pika.exceptions.AMQPError, match="ACCESS_REFUSED"):
        asyncio.run(publish())


@pytest.mark.parametrize(
    ("role", "method", "path"),
    [
        ("worker", "GET", "/api/queues"),
        ("worker", "PUT", "/api/policies/%2F/mine"),
        ("api", "PUT", "/api/users/me"),
        ("operator", "PUT", "/api/users/me"),
        ("operator", "GET", "/api/definitions"),
    ],
)
def test_the_management_api_refuses(hardened: HardenedStack, role: str, method: str, path: str) -> None:
    (address,) = parse_amqp_url(hardened.broker.url_of(role))
    base = hardened.broker.tls_management_url
    body = {"pattern": ".*", "definition": {"max-length": 1}, "password": "x", "tags": "administrator"}
    with httpx.Client(base_url=base, auth=(address.user, address.password), verify=hardened.context) as client:
        assert client.request(method, path, json=body if method == "PUT" else None).status_code in (401, 403)


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("worker", ("HSET", wire.REGISTRY_KEY, "mine", "{}")),
        ("worker", ("SET", wire.FENCE_KEY_PREFIX + "pod", "1")),
        ("worker", ("HSET", wire.REPLICAS_KEY, "api", "1")),
        ("worker", ("DEL", wire.RATE_KEY_PREFIX + "queue:jobs")),
        ("worker", ("GET", "somebody-elses")),
        ("worker", ("PUBLISH", "somebody-elses", "x")),
        ("operator", ("XRANGE", wire.EVENTS_STREAM, "-", "+")),
        ("operator", ("HGETALL", wire.TASK_KEY_PREFIX + "id")),
        ("operator", ("DEL", wire.RATE_KEY_PREFIX + "queue:jobs")),
        ("operator", ("SET", wire.WORKER_KEY_PREFIX + "jobs:host", "{}")),
        ("api", ("GET", "somebody-elses")),
        *(
            (role, words)
            for role in ("api", "operator", "worker")
            for words in (
                ("FLUSHALL",),
                ("KEYS", "*"),
                ("CONFIG", "GET", "*"),
                ("ACL", "LIST"),
                ("MONITOR",),
                ("SHUTDOWN",),
                ("MODULE", "LIST"),
            )
        ),
    ],
)
def test_the_store_refuses(hardened: HardenedStack, role: str, words: tuple[str, ...]) -> None:
    with contextlib.closing(hardened.valkey.connect(role)) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)


def test_the_operators_user_may_do_all_that_the_operator_does(hardened: HardenedStack) -> None:
    woken: asyncio.Queue[str] = asyncio.Queue()

    async def wake() -> None:
        with contextlib.closing(hardened.valkey.connect("api")) as api:
            while woken.empty():
                api.publish(wire.WAKE_CHANNEL, "jobs")
                await asyncio.sleep(0.1)

    async def use(store: Store) -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            listening = group.create_task(store.listen(woken.put_nowait))
            await store.fence(["pod"])
            await store.unfence(["pod"])
            await store.register([{"queueName": "made"}], gone=["made"])  # type: ignore[typeddict-item]
            await store.write_decisions({"jobs": {}})  # type: ignore[typeddict-item]
            assert "jobs" in (await store.fetch_heartbeats() or {})
            await wake()
            await end_tasks([listening])
        await store.close()

    asyncio.run(use(Store(hardened.valkey.url_of("operator", hardened.authority))))
    assert woken.get_nowait() == "jobs"


def test_the_apis_user_may_share_rates_and_succeed_the_dead(hardened: HardenedStack) -> None:
    async def use(live: LiveStore) -> None:
        try:
            assert await live.settle_rates([RateUse("queue:roles", 4, 0.001, 10)]) == [6]
            assert (await live.beat("roles-1", 7))["roles-1"] == 7
            await live.forget_process("roles-1")
            assert await live.take_over_events("roles-1/0", "roles-2/takeover", limit=10) == []
            assert "roles-1/0" not in await live.fetch_consumers()
        finally:
            await live.close()

    asyncio.run(use(LiveStore(hardened.valkey.url_of("api", hardened.authority))))


@pytest.mark.parametrize("role", ["api", "operator"])
def test_depth_may_be_read(hardened: HardenedStack, role: str) -> None:
    asyncio.run(call(hardened, role, commands.Queue.Declare(queue="jobs", passive=True)))
