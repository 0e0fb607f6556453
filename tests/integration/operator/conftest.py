"""Brokers for the operator's broker side, and a proxy that counts HTTP requests."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.brokers import RabbitMQ

from taskfleet_operator.brokers import BrokerAccess
from taskfleet_operator.topology_keeping import TopologyKeeper

__all__ = ["Keeping", "build_access", "delete", "find_rules", "look_up", "make_name"]


class Keeping:
    """A keeper and the queues whose state changed."""

    def __init__(self, drift_seconds: float = 60.0) -> None:
        self.changes: list[str] = []
        self.keeper = TopologyKeeper(lambda _broker, queue: self.changes.append(queue), drift_seconds=drift_seconds)


def make_name() -> str:
    return f"op-{uuid.uuid4().hex[:10]}"


def build_access(server: RabbitMQ, **changes: Any) -> BrokerAccess:
    """The way to a server; `port`, `management_port` and `metrics_port` may be those of proxies."""
    login = changes.get("login", "guest:guest")
    return BrokerAccess(
        f"amqp://{login}@127.0.0.1:{changes.get('port', server.port)}//",
        f"http://{login}@127.0.0.1:{changes.get('management_port', server.management_port)}",
        f"http://127.0.0.1:{changes.get('metrics_port', server.metrics_port)}",
    )


async def look_up(server: RabbitMQ, kind: str, name: str) -> Any:
    """One object of the management API, or None."""
    rows = await asyncio.to_thread(server.management, "GET", f"/api/{kind}/%2F")
    return next((row for row in rows if row["name"] == name), None)


async def find_rules(server: RabbitMQ, queue: str) -> list[dict[str, Any]]:
    """The definitions of Taskfleet's policies that name a queue."""
    rows = await asyncio.to_thread(server.management, "GET", "/api/policies/%2F")
    ours = [row for row in rows if row["name"].startswith("taskfleet")]
    return [row["definition"] for row in ours if re.search(row["pattern"], queue)]


async def delete(server: RabbitMQ, kind: str, name: str) -> None:
    """Take something away behind the operator's back."""
    await asyncio.to_thread(server.management, "DELETE", f"/api/{kind}/%2F/{quote(name, safe='')}")


@pytest.fixture(params=["rabbitmq43", "rabbitmq310"])
def rabbitmq(request: pytest.FixtureRequest) -> RabbitMQ:
    server: RabbitMQ = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def keeping() -> AsyncIterator[Keeping]:
    keeping = Keeping()
    yield keeping
    await keeping.keeper.close()
