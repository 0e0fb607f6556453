"""Queues stand at their brokers as the TaskQueues say, and what stands in the way is told."""

import asyncio
import re
from dataclasses import replace

from tests.integration.operator.conftest import (
    Keeping,
    build_access,
    delete,
    find_rules,
    look_up,
    make_name,
)
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.processes import free_port
from tests.support.proxies import CountingProxy, Proxy
from tests.support.waiting import eventually

from taskfleet_core.topology import QueueSpec
from taskfleet_operator.brokers import BrokerAccess
from taskfleet_operator.topology_keeping import QueueState


async def wait_ready(keeping: Keeping, access: BrokerAccess, name: str) -> QueueState:
    await eventually(lambda: keeping.keeper.get(access, name).is_ready, timeout_seconds=60)
    return keeping.keeper.get(access, name)


async def wait_error(keeping: Keeping, access: BrokerAccess, name: str) -> QueueState:
    await eventually(lambda: keeping.keeper.get(access, name).error, timeout_seconds=60)
    return keeping.keeper.get(access, name)


async def test_a_wanted_queue_gets_its_dead_letter_queue_and_policy_and_limits_are_said(
    rabbitmq: RabbitMQ, keeping: Keeping
) -> None:
    access, name = build_access(rabbitmq), make_name()
    keeping.keeper.want(access, QueueSpec(name, delivery_limit=3, consumer_timeout_seconds=60))
    state = await wait_ready(keeping, access, name)
    assert keeping.changes == [name]
    for queue in (name, f"{name}.dead"):
        assert (await look_up(rabbitmq, "queues", queue))["type"] == "quorum"
    assert [rules["delivery-limit"] for rules in await find_rules(rabbitmq, name)] == [3]
    told = " ".join(state.degradations)
    assert ("consumer-timeout" in told, "priorities" in told) == (rabbitmq.version == "3.10",) * 2


async def test_changed_delivery_rules_reach_the_broker(rabbitmq43: RabbitMQ, keeping: Keeping) -> None:
    access, spec = build_access(rabbitmq43), QueueSpec(make_name(), delivery_limit=3)
    keeping.keeper.want(access, spec)
    await wait_ready(keeping, access, spec.name)
    keeping.keeper.want(access, replace(spec, delivery_limit=7))

    async def is_changed() -> bool:
        return [rules["delivery-limit"] for rules in await find_rules(rabbitmq43, spec.name)] == [7]

    await eventually(is_changed, timeout_seconds=30)


async def test_what_somebody_removed_comes_back_and_a_look_costs_two_requests_or_three(rabbitmq: RabbitMQ) -> None:
    keeping = Keeping(drift_seconds=1.0)
    names = [make_name() for _ in range(5)]
    async with CountingProxy(rabbitmq.management_port) as proxy:
        access = build_access(rabbitmq, management_port=proxy.port)
        for name in names:
            keeping.keeper.want(access, QueueSpec(name))
        for name in names:
            await wait_ready(keeping, access, name)
        await proxy.wait_quiet()  # the requests of the declarations are over
        before, cost = proxy.requests, 2 if rabbitmq.version == "3.10" else 3

        async def has_looked() -> bool:
            return proxy.requests >= before + 2 * cost

        await eventually(has_looked, timeout_seconds=30)
        assert (proxy.requests - before) % cost == 0
        for row in await asyncio.to_thread(rabbitmq.management, "GET", "/api/policies/%2F"):
            if row["name"].startswith("taskfleet") and re.search(row["pattern"], names[0]):
                await delete(rabbitmq, "policies", row["name"])
        await delete(rabbitmq, "queues", f"{names[1]}.dead")

        async def is_repaired() -> bool:
            rules = await find_rules(rabbitmq, names[0])
            return bool(rules and await look_up(rabbitmq, "queues", f"{names[1]}.dead"))

        await eventually(is_repaired, timeout_seconds=30)
        await keeping.keeper.close()


async def test_many_new_queues_hold_nobody_up_and_all_come(rabbitmq310: RabbitMQ, keeping: Keeping) -> None:
    """Wanting returns at once; the work is done beside, several at a time."""
    access, names = build_access(rabbitmq310), [make_name() for _ in range(40)]
    for name in names:
        keeping.keeper.want(access, QueueSpec(name))
    assert not any(keeping.keeper.get(access, name).is_ready for name in names)
    for name in names:
        await wait_ready(keeping, access, name)


async def test_namespaces_take_turns_with_new_queues(rabbitmq43: RabbitMQ, keeping: Keeping) -> None:
    """A queue of a small namespace that comes last is there long before all of a crowded one."""
    access, crowd, late = build_access(rabbitmq43), [make_name() for _ in range(150)], make_name()
    for name in crowd:
        keeping.keeper.want(access, QueueSpec(name, dead_letter=False), "crowd")
    keeping.keeper.want(access, QueueSpec(late, dead_letter=False), "small")
    await wait_ready(keeping, access, late)
    assert sum(keeping.keeper.get(access, name).is_ready for name in crowd) < 50
    for name in crowd:
        await wait_ready(keeping, access, name)


async def test_a_queue_that_the_poller_misses_is_declared_again(rabbitmq43: RabbitMQ, keeping: Keeping) -> None:
    access, name = build_access(rabbitmq43), make_name()
    keeping.keeper.want(access, QueueSpec(name))
    await wait_ready(keeping, access, name)
    await delete(rabbitmq43, "queues", name)

    async def is_back() -> bool:
        keeping.keeper.report_missing(access, {name})
        return await look_up(rabbitmq43, "queues", name) is not None

    await eventually(is_back, timeout_seconds=30, interval_seconds=0.2)


async def test_refused_credentials_are_told_from_an_outage_and_never_shown(
    rabbitmq43: RabbitMQ, keeping: Keeping
) -> None:
    refused = build_access(rabbitmq43, login="guest:s3cret")
    nowhere = build_access(rabbitmq43, login="guest:s3cret", port=free_port())
    name = make_name()
    for access in (refused, nowhere):
        keeping.keeper.want(access, QueueSpec(name))
    state = await wait_error(keeping, refused, name)
    assert (state.is_ready, state.is_refused) == (False, True)
    assert "s3cret" not in str(state)
    state = await wait_error(keeping, nowhere, name)
    assert (state.is_ready, state.is_refused) == (False, False)
    assert "s3cret" not in str(state)


async def test_after_an_outage_everything_is_looked_at_again(rabbitmq43: RabbitMQ, keeping: Keeping) -> None:
    async with Proxy(rabbitmq43.port) as amqp:
        access, first, second = build_access(rabbitmq43, port=amqp.port), make_name(), make_name()
        keeping.keeper.want(access, QueueSpec(first))
        await wait_ready(keeping, access, first)
        amqp.freeze()
        keeping.keeper.want(access, QueueSpec(second))
        await wait_error(keeping, access, second)
        assert keeping.keeper.get(access, first).is_ready  # as far as is known
        await delete(rabbitmq43, "queues", first)
        amqp.thaw()
        keeping.keeper.report_return(access)
        await wait_ready(keeping, access, second)
        assert await look_up(rabbitmq43, "queues", first) is not None
        assert keeping.keeper.get(access, first).error is None


async def test_without_the_management_api_queues_are_there_and_the_lack_is_said(
    rabbitmq43: RabbitMQ, keeping: Keeping
) -> None:
    access, name = build_access(rabbitmq43, management_port=free_port()), make_name()
    keeping.keeper.want(access, QueueSpec(name))
    state = await wait_ready(keeping, access, name)
    assert any("policymaker" in text for text in state.degradations)


async def test_a_queue_of_another_type_is_said_and_left_alone(rabbitmq43: RabbitMQ, keeping: Keeping) -> None:
    access, name = build_access(rabbitmq43), make_name()
    await asyncio.to_thread(rabbitmq43.management, "PUT", f"/api/queues/%2F/{name}", {"durable": True})
    keeping.keeper.want(access, QueueSpec(name))
    state = await wait_error(keeping, access, name)
    assert "quorum" in str(state.error)
    assert not state.is_ready
    assert (await look_up(rabbitmq43, "queues", name))["type"] == "classic"


async def test_a_redis_broker_is_ready_at_once(valkey: Valkey, keeping: Keeping) -> None:
    access, name = BrokerAccess(valkey.url), make_name()
    keeping.keeper.want(access, QueueSpec(name, max_length=5))
    state = await wait_ready(keeping, access, name)
    assert "max_length" in state.degradations[0]


async def test_a_queue_that_nobody_wants_any_more_stays_at_the_broker(rabbitmq43: RabbitMQ, keeping: Keeping) -> None:
    """Its messages are the user's."""
    access, name = build_access(rabbitmq43), make_name()
    keeping.keeper.want(access, QueueSpec(name))
    await wait_ready(keeping, access, name)
    keeping.keeper.drop(access, name)
    assert keeping.keeper.get(access, name) == QueueState()
    assert await look_up(rabbitmq43, "queues", name) is not None
