"""Queues are at the broker as they should be, and what a broker cannot do is said."""

import asyncio
import uuid
from typing import Any

import pytest
from tests.integration.brokers.conftest import Broker
from tests.support.processes import free_port
from tests.support.waiting import eventually

from taskfleet_api.brokers import Degradation, QueueSpec, open_topology
from taskfleet_core.errors import BrokerUnavailableError, ConflictError


def fresh_name() -> str:
    return f"topology.{uuid.uuid4().hex[:8]}+x"


async def ensure(broker: Broker, spec: QueueSpec, management_url: str | None = None) -> list[Degradation]:
    server: Any = broker.server
    topology = open_topology(broker.url, management_url or server.management_url)
    try:
        return await topology.ensure_queue(spec)
    finally:
        await topology.close()


def look_up(broker: Broker, kind: str, name: str) -> Any:
    server: Any = broker.server
    return server.management("GET", f"/api/{kind}/%2F/{name.replace('+', '%2B')}")


async def test_a_queue_is_a_quorum_queue_without_further_arguments_and_with_a_policy(rabbitmq: Broker) -> None:
    name = fresh_name()
    spec = QueueSpec(name, delivery_limit=3, max_length=1000, message_ttl_seconds=60.5)
    await ensure(rabbitmq, spec)
    for queue in (name, name + ".dead"):
        found = look_up(rabbitmq, "queues", queue)
        assert (found["durable"], found["arguments"]) == (True, {"x-queue-type": "quorum"})
    policy = look_up(rabbitmq, "policies", f"taskfleet.{name}")
    assert policy["definition"] == {
        "delivery-limit": 3,
        "dead-letter-exchange": "",
        "dead-letter-routing-key": name + ".dead",
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
        "max-length": 1000,
        "message-ttl": 60500,
    }

    async def policy_applies() -> bool:
        queue = await asyncio.to_thread(look_up, rabbitmq, "queues", name)
        return bool(queue.get("policy") == f"taskfleet.{name}")

    await eventually(policy_applies, timeout_seconds=15)
    dead = look_up(rabbitmq, "queues", name + ".dead")
    assert dead.get("policy") != f"taskfleet.{name}"


async def test_rules_can_change_later(rabbitmq: Broker) -> None:
    name = fresh_name()
    await ensure(rabbitmq, QueueSpec(name, delivery_limit=3))
    await ensure(rabbitmq, QueueSpec(name, delivery_limit=7, dead_letter=False))
    policy = look_up(rabbitmq, "policies", f"taskfleet.{name}")
    assert policy["definition"] == {"delivery-limit": 7, "overflow": "reject-publish"}


async def test_what_a_version_cannot_do_is_said(rabbitmq: Broker) -> None:
    degradations = await ensure(rabbitmq, QueueSpec(fresh_name(), consumer_timeout_seconds=60))
    features = [degradation.feature for degradation in degradations]
    assert features == ([] if rabbitmq.name == "rabbitmq43" else ["consumer_timeout", "priority"])


async def test_without_the_management_api_the_queue_is_there_and_the_missing_policy_is_said(rabbitmq: Broker) -> None:
    name = fresh_name()
    degradations = await ensure(rabbitmq, QueueSpec(name), f"http://u:s3cret@127.0.0.1:{free_port()}")
    assert "policy" in [degradation.feature for degradation in degradations]
    assert "s3cret" not in str(degradations)
    assert look_up(rabbitmq, "queues", name)["durable"]


async def test_a_queue_of_another_type_is_a_conflict(rabbitmq: Broker) -> None:
    name = fresh_name()
    server: Any = rabbitmq.server
    server.management("PUT", f"/api/queues/%2F/{name.replace('+', '%2B')}", {"durable": True})
    with pytest.raises(ConflictError, match="quorum"):
        await ensure(rabbitmq, QueueSpec(name))


async def test_deleting_leaves_nothing_and_can_be_repeated(rabbitmq: Broker) -> None:
    name = fresh_name()
    server: Any = rabbitmq.server
    await ensure(rabbitmq, QueueSpec(name))
    topology = open_topology(rabbitmq.url, server.management_url)
    await topology.delete_queue(name)
    await topology.delete_queue(name)
    await topology.close()
    queues = [queue["name"] for queue in server.management("GET", "/api/queues/%2F")]
    policies = [policy["name"] for policy in server.management("GET", "/api/policies/%2F")]
    assert not [found for found in queues + policies if name in found]


async def test_a_broker_that_is_down_is_unavailable_and_its_credentials_unsaid() -> None:
    topology = open_topology(f"amqp://u:s3cret@127.0.0.1:{free_port()}//")
    with pytest.raises(BrokerUnavailableError) as caught:
        await topology.ensure_queue(QueueSpec("q"))
    assert "s3cret" not in str(caught.value)
    await topology.close()


async def test_redis_says_which_rules_a_list_cannot_have() -> None:
    topology = open_topology("redis://127.0.0.1:1/0")
    assert await topology.ensure_queue(QueueSpec("q", consumer_timeout_seconds=5)) == []
    degradations = await topology.ensure_queue(QueueSpec("q", max_length=5, message_ttl_seconds=1))
    assert [degradation.feature for degradation in degradations] == ["max_length", "message_ttl"]
    await topology.delete_queue("q")
    await topology.close()
