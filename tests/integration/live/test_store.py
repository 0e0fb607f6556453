"""LiveStore on a real Valkey: states, announcements, registry, heartbeats, and what happens without it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from tests.support.brokers import Valkey
from tests.support.events import (
    build_heartbeat,
    build_progress_event,
    build_registration,
    build_state_event,
    new_id,
)
from tests.support.waiting import eventually

from taskfleet_api.live import LiveStore
from taskfleet_core import wire
from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.scaling import Observation, ScalingSpec, build_report, decide
from taskfleet_core.states import TaskState


@pytest.fixture
async def live(valkey: Valkey) -> AsyncIterator[LiveStore]:
    valkey.flush()
    store = LiveStore(valkey.url, timeout_seconds=1.0)
    await store.start()
    yield store
    await store.close()


@pytest.fixture
async def raw(valkey: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(valkey.url, decode_responses=True)
    yield client
    await client.aclose()


async def test_last_decision_about_a_queue_is_read(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    decision = decide(Observation(at=0.0, ready=1, unacknowledged=0, replicas=0), ScalingSpec(), None)
    report = build_report(decision, at=5.0, acting=True)
    await raw.hset(wire.DECISIONS_KEY, mapping={"q": json.dumps(report), "old": "{}", "broken": "{"})
    assert await live.fetch_decision("q") == report
    assert [await live.fetch_decision(queue) for queue in ("old", "broken", "nobody")] == [None, None, None]


async def test_states_are_fetched_for_those_that_have_one(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    known, unknown, broken = str(new_id()), str(new_id()), str(new_id())
    event = build_state_event(TaskState.RUNNING, known)
    progress = build_progress_event(known, 1, {"done": 1})
    await raw.hset(
        wire.task_key(known),
        mapping={wire.LIVE_EVENT: json.dumps(event), wire.LIVE_PROGRESS: json.dumps(progress)},
    )
    await raw.hset(wire.task_key(broken), wire.LIVE_EVENT, "{not json")
    states = await live.fetch_states([known, unknown, broken])
    assert (states[known].event, states[known].progress) == (event, progress)
    assert unknown not in states
    assert states[broken].event is None


async def test_many_states_are_fetched_in_chunks(live: LiveStore) -> None:
    ids = [str(new_id()) for _ in range(1200)]
    await live.announce(build_state_event(TaskState.RUNNING, ids[-1]))
    assert list(await live.fetch_states(ids)) == [ids[-1]]


async def test_an_announcement_never_overwrites_something_later(live: LiveStore) -> None:
    task_id = str(new_id())
    assert await live.announce(build_state_event(TaskState.SUCCEEDED, task_id))
    assert not await live.announce(build_state_event(TaskState.CANCELLED, task_id)), "a second final state"
    assert not await live.announce(build_state_event(TaskState.RUNNING, task_id))
    assert await live.announce(build_state_event(TaskState.PENDING, task_id, attempt=2)), "a new attempt"
    event = (await live.fetch_states([task_id]))[task_id].event
    assert event is not None
    assert event["state"] == "pending"


async def test_a_cancellation_reaches_listening_workers_and_those_to_come(
    live: LiveStore, raw: redis.asyncio.Redis
) -> None:
    task_id = str(new_id())
    async with raw.pubsub() as listener:
        await listener.subscribe(wire.CONTROL_CHANNEL_PREFIX + "q")
        await live.cancel("q", task_id, terminate=True)
        message = await eventually(lambda: listener.get_message(ignore_subscribe_messages=True))
    assert json.loads(message["data"]) == {"type": "cancel", "id": task_id, "terminate": True}
    assert await raw.zscore(wire.CANCELLED_KEY_PREFIX + "q", task_id) == pytest.approx(time.time(), abs=60)


async def test_a_wake_hint_names_the_queue(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    async with raw.pubsub() as listener:
        await listener.subscribe(wire.WAKE_CHANNEL)
        await live.wake("q")
        message = await eventually(lambda: listener.get_message(ignore_subscribe_messages=True))
    assert message["data"] == "q"


async def test_the_registry_holds_queues_until_they_leave(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    await live.register(build_registration("a"))
    await live.register(build_registration("b"))
    await raw.hset(wire.REGISTRY_KEY, "c", "broken")
    assert sorted(entry["queueName"] for entry in await live.fetch_registry()) == ["a", "b"]
    await live.unregister("a")
    assert [entry["queueName"] for entry in await live.fetch_registry()] == ["b"]


async def test_the_catalog_is_read_per_queue(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    await raw.hset(wire.CATALOG_KEY_PREFIX + "q", "demo.add", json.dumps({"type": "object"}))
    catalogs = await live.fetch_catalogs(["q", "other"])
    assert catalogs == {"q": {"demo.add": {"type": "object"}}, "other": {}}


async def test_heartbeats_of_living_workers_only(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    for queue, host in (("q", "h1"), ("q", "h2"), ("q:x", "h3"), ("other", "h4")):
        key = wire.worker_key(queue, host)
        await raw.set(key, json.dumps(build_heartbeat(queue, host)), ex=wire.HEARTBEAT_TTL_SECONDS)
        await raw.zadd(wire.WORKERS_INDEX_KEY, {key: time.time()})
    await raw.zadd(wire.WORKERS_INDEX_KEY, {wire.worker_key("q", "gone"): time.time() - 3})
    assert {beat["host"] for beat in await live.fetch_heartbeats("q")} == {"h1", "h2"}
    assert {beat["host"] for beat in await live.fetch_heartbeats()} == {"h1", "h2", "h3", "h4"}


async def test_without_an_answer_every_call_ends_within_its_time_limit() -> None:
    server = Valkey()
    server.start()
    store = LiveStore(server.url, timeout_seconds=0.2)
    try:
        await store.start()
        await store.ping()
        server.pause()
        started = time.monotonic()
        for call in (store.ping, lambda: store.fetch_states(["a"]), store.fetch_heartbeats, lambda: store.wake("q")):
            with pytest.raises(StoreUnavailableError):
                await call()
        assert time.monotonic() - started < 4
        server.resume()
        await eventually(lambda: _answers(store))
        server.kill()
        with pytest.raises(StoreUnavailableError) as failure:
            await store.ping()
        assert "redis://" not in str(failure.value)
        server.start()
        await eventually(lambda: _answers(store))
    finally:
        await store.close()
        server.stop()


async def test_after_a_restart_the_first_call_works_although_pooled_connections_are_dead() -> None:
    server = Valkey()
    server.start()
    store = LiveStore(server.url, timeout_seconds=1.0)
    try:
        await asyncio.gather(*(store.ping() for _ in range(10)))
        server.restart()
        for _ in range(10):
            await store.ping()
    finally:
        await store.close()
        server.stop()


async def _answers(store: LiveStore) -> bool:
    try:
        await store.ping()
    except StoreUnavailableError:
        return False
    return True
