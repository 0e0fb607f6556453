"""Decisions reach the store, each once, and leave it with their queue."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from tests.support.brokers import Valkey
from tests.support.waiting import eventually

from taskfleet_core import wire
from taskfleet_core.ending import end_tasks
from taskfleet_core.scaling import Observation, ScalingSpec, decide
from taskfleet_operator.reporting import report_decisions
from taskfleet_operator.store import Store


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[Store]:
    valkey.flush()
    store = Store(valkey.url)
    yield store
    await store.close()


async def test_new_decisions_are_written_and_leave_with_their_queue(valkey: Valkey, store: Store) -> None:
    raw = redis.asyncio.Redis.from_url(valkey.url, decode_responses=True)
    first, second = (
        decide(Observation(at=0.0, ready=ready, unacknowledged=0, replicas=0), ScalingSpec(), None) for ready in (1, 9)
    )
    present = {"a": first, "b": first}
    task = asyncio.create_task(
        report_decisions(store, lambda: [(queue, decision, queue == "a") for queue, decision in present.items()])
    )
    try:
        await eventually(lambda: raw.hexists(wire.DECISIONS_KEY, "b"))
        before = await raw.hgetall(wire.DECISIONS_KEY)
        assert [json.loads(before[queue])["acting"] for queue in "ab"] == [True, False]
        present["b"] = second

        async def is_newer() -> bool:
            return json.loads(await raw.hget(wire.DECISIONS_KEY, "b"))["replicas"] == second.replicas

        await eventually(is_newer)
        after = await raw.hgetall(wire.DECISIONS_KEY)
        assert after["a"] == before["a"]  # what has not changed is not written again
    finally:
        await end_tasks([task])
    await store.register((), gone=["a"])
    assert list(await raw.hgetall(wire.DECISIONS_KEY)) == ["b"]
    await raw.aclose()
