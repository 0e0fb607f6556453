"""Queues are at the broker as they should be, and what a broker cannot do is said."""

import asyncio
import re
from typing import Any
from urllib.parse import quote

import pytest
from kombu import Connection
from tests.integration.brokers.conftest import Broker, ensure, fresh_name, look_up
from tests.support.brokers import RabbitMQ
from tests.support.processes import free_port
from tests.support.waiting import eventually

from taskfleet_api.brokers import QueueSpec, open_topology
from taskfleet_core.errors import BrokerUnavailableError, ConflictError


def shares_policies(broker: Broker) -> bool:
    return broker.name == "rabbitmq43"


def look_up_or_none(broker: Broker, policy: str) -> Any:
    server: Any = broker.server
    return next((row for row in server.management("GET", "/api/policies/%2F") if row["name"] == policy), None)


def find_rules(broker: Broker, queue: str) -> list[dict[str, Any]]:
    """The definitions of Taskfleet's policies that name a queue."""
    server: Any = broker.server
    policies = [row for row in server.management("GET", "/api/policies/%2F") if row["name"].startswith("taskfleet")]
    return [row["definition"] for row in policies if re.search(row["pattern"], queue)]


async def test_a_queue_is_a_quorum_queue_without_further_arguments_and_with_a_policy(rabbitmq: Broker) -> None:
    name = fresh_name()
    spec = QueueSpec(name, delivery_limit=3, max_length=1000, message_ttl_seconds=60.5)
    await ensure(rabbitmq, spec)
    for queue in (name, name + ".dead"):
        found = look_up(rabbitmq, "queues", queue)
        assert (found["durable"], found["arguments"]) == (True, {"x-queue-type": "quorum"})
    (rules,) = find_rules(rabbitmq, name)
    assert (rules.pop("dead-letter-exchange"), rules.pop("dead-letter-routing-key", None)) == (
        ("taskfleet.dead", None) if shares_policies(rabbitmq) else ("", name + ".dead")
    )
    assert rules == {
        "delivery-limit": 3,
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
        "max-length": 1000,
        "message-ttl": 60500,
    }
    assert find_rules(rabbitmq, name + ".dead") == ([{"delivery-limit": -1}] if shares_policies(rabbitmq) else [])

    async def policy_applies() -> bool:
        queue = await asyncio.to_thread(look_up, rabbitmq, "queues", name)
        return (queue.get("effective_policy_definition") or {}).get("max-length") == 1000

    await eventually(policy_applies, timeout_seconds=15)


async def test_rules_can_change_later(rabbitmq: Broker) -> None:
    name = fresh_name()
    await ensure(rabbitmq, QueueSpec(name, delivery_limit=3))
    await ensure(rabbitmq, QueueSpec(name, delivery_limit=7, dead_letter=False))
    assert find_rules(rabbitmq, name) == [{"delivery-limit": 7, "overflow": "reject-publish"}]


async def test_writers_at_the_same_time_lose_nothing_of_each_others(rabbitmq43: RabbitMQ) -> None:
    """Operator and API both declare; each adds its queues to patterns that the other is changing too."""
    broker = Broker("rabbitmq43", rabbitmq43)
    sets = [[QueueSpec(fresh_name(), delivery_limit=11) for _ in range(15)] for _ in range(4)]
    topologies = [open_topology(broker.url, rabbitmq43.management_url) for _ in sets]
    await asyncio.gather(*(made.ensure_queues(specs) for made, specs in zip(topologies, sets, strict=True)))
    await asyncio.gather(*(made.close() for made in topologies))
    for spec in [spec for specs in sets for spec in specs]:
        assert len(find_rules(broker, spec.name)) == 1
        assert look_up(broker, "queues", spec.name)["durable"]


async def test_shared_policies_replace_those_of_single_queues(rabbitmq43: RabbitMQ) -> None:
    """As an upgrade finds them; what a queue is named in by others stays."""
    broker = Broker("rabbitmq43", rabbitmq43)
    name, other = fresh_name(), fresh_name()
    for queue in (name, name + ".dead"):
        body = {
            "pattern": f"^{re.escape(queue)}$",
            "apply-to": "queues",
            "priority": 100,
            "definition": {"max-length": 9},
        }
        rabbitmq43.management("PUT", f"/api/policies/%2F/{quote(f'taskfleet.{queue}')}", body)
    await ensure(broker, QueueSpec(other))
    await ensure(broker, QueueSpec(name))
    assert look_up_or_none(broker, f"taskfleet.{name}") is look_up_or_none(broker, f"taskfleet.{name}.dead") is None
    assert [rules["delivery-limit"] for rules in find_rules(broker, name)] == [5]
    assert len(find_rules(broker, other)) == 1


async def test_a_dead_letter_is_sorted_by_its_queue_whatever_its_routing_key(rabbitmq: Broker) -> None:
    """A task that Celery's native delays or an exchange of the app's own brought has another key than its queue."""
    name = fresh_name()
    await ensure(rabbitmq, QueueSpec(name, delivery_limit=1))
    with Connection(rabbitmq.url) as connection:
        channel = connection.default_channel
        channel.exchange_declare("app", "topic", durable=True, auto_delete=False)
        channel.queue_bind(name, "app", "#.thumbs")
        connection.Producer().publish({}, exchange="app", routing_key="0.1.thumbs")

        def die() -> str | None:
            message = channel.basic_get(name)
            if message:
                channel.basic_reject(message.delivery_tag, requeue=False)
            dead = channel.basic_get(name + ".dead", no_ack=True)
            return str(dead.headers["x-first-death-queue"]) if dead else None

        found = await eventually(die, timeout_seconds=20, interval_seconds=0.2)
    assert found == name


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
    other = fresh_name()
    await topology.ensure_queue(QueueSpec(other))
    await topology.delete_queue(name)
    await topology.delete_queue(name)
    await topology.close()
    queues = [queue["name"] for queue in server.management("GET", "/api/queues/%2F")]
    assert not [found for found in queues if name in found]
    assert find_rules(rabbitmq, name) == []
    assert len(find_rules(rabbitmq, other)) == 1


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
