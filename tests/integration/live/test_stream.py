"""The event stream: read once by one consumer, taken over from the dead, kept until acknowledged, safe over a flush."""

import json
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from tests.support.brokers import Valkey
from tests.support.events import build_state_event
from tests.support.waiting import eventually

from taskfleet_api.live import LiveStore, StreamEntry
from taskfleet_core import wire
from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.states import TaskState


@pytest.fixture
async def raw(valkey: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(valkey.url, decode_responses=True)
    yield client
    await client.aclose()


@pytest.fixture
async def live(valkey: Valkey) -> AsyncIterator[LiveStore]:
    valkey.flush()
    store = LiveStore(valkey.url, timeout_seconds=1.0)
    yield store
    await store.close()


async def add(raw: redis.asyncio.Redis, count: int = 1) -> list[str]:
    events = [build_state_event(TaskState.RUNNING) for _ in range(count)]
    for event in events:
        await raw.xadd(wire.EVENTS_STREAM, {wire.EVENT_FIELD: json.dumps(event)})
    return [event["id"] for event in events]


async def read(live: LiveStore, consumer: str = "a", limit: int = 100) -> list[StreamEntry]:
    return await live.read_events(consumer, limit=limit, block_seconds=0.01)


def ids_of(entries: list[StreamEntry]) -> list[str]:
    return [entry.event["id"] for entry in entries if entry.event is not None]


async def test_entries_written_before_the_group_existed_are_read(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    ids = await add(raw, 3)
    assert ids_of(await eventually(lambda: read(live))) == ids


async def test_two_consumers_share_the_stream(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    ids = await add(raw, 4)
    first = await eventually(lambda: read(live, "a", 2))
    second = await read(live, "b")
    assert ids_of(first) + ids_of(second) == ids


async def test_acknowledged_entries_are_gone(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    await add(raw, 3)
    entries = await eventually(lambda: read(live))
    assert await live.fetch_stream_length() == 3
    await live.ack_events([entry.entry_id for entry in entries])
    assert await live.fetch_stream_length() == 0
    assert (await raw.xpending(wire.EVENTS_STREAM, wire.RECORDER_GROUP))["pending"] == 0


async def test_what_a_dead_consumer_read_is_taken_over_once_idle(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    ids = await add(raw, 5)
    await eventually(lambda: read(live, "dead"))
    assert await live.reclaim_events("alive", idle_seconds=60, limit=10) == []
    assert ids_of(await live.reclaim_events("alive", idle_seconds=0, limit=3)) == ids[:3]
    assert ids_of(await live.reclaim_events("alive", idle_seconds=0, limit=3)) == ids[3:], "it goes on where it stopped"


async def test_a_dead_consumers_entries_are_taken_over_at_once_and_it_is_removed(
    live: LiveStore, raw: redis.asyncio.Redis
) -> None:
    ids = await add(raw, 5)
    await eventually(lambda: read(live, "dead"))
    taken = await live.take_over_events("dead", "alive", limit=3)
    assert ids_of(taken) == ids[:3]
    assert taken[0].event is not None, "an entry comes whole"
    assert ids_of(await live.take_over_events("dead", "other", limit=3)) == ids[3:], "each is taken once"
    assert set(await live.fetch_consumers()) == {"dead", "alive", "other"}
    assert await live.take_over_events("dead", "alive", limit=3) == []
    assert set(await live.fetch_consumers()) == {"alive", "other"}


async def test_a_consumer_that_was_removed_reads_on(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    """It was only paused: its entries were recorded by another, and it says that it has recorded them, too."""
    await add(raw, 2)
    old = await eventually(lambda: read(live, "paused"))
    await live.take_over_events("paused", "alive", limit=10)
    await live.take_over_events("paused", "alive", limit=10)
    ids = await add(raw, 1)
    await live.ack_events([entry.entry_id for entry in old])
    assert ids_of(await read(live, "paused")) == ids
    assert await live.take_over_events("alive", "paused", limit=10) == [], "what was recorded is held by nobody"


async def test_idle_consumers_without_entries_are_removed_others_stay(
    live: LiveStore, raw: redis.asyncio.Redis
) -> None:
    await add(raw)
    await eventually(lambda: read(live, "holds"))
    await read(live, "empty")
    await eventually(lambda: _removed(live))
    names = [entry["name"] for entry in await raw.xinfo_consumers(wire.EVENTS_STREAM, wire.RECORDER_GROUP)]
    assert names == ["holds"]


async def test_a_flush_makes_the_group_again(live: LiveStore, raw: redis.asyncio.Redis, valkey: Valkey) -> None:
    await read(live)
    valkey.flush()
    ids = await add(raw, 2)
    assert ids_of(await eventually(lambda: read(live))) == ids
    valkey.flush()
    assert await live.reclaim_events("a", idle_seconds=0, limit=10) == []
    await live.ack_events(["1-1"])
    valkey.flush()
    assert await live.fetch_consumers() == []
    assert await live.take_over_events("dead", "a", limit=10) == []


async def test_an_entry_nobody_can_read_is_told_from_one_of_a_newer_release(
    live: LiveStore, raw: redis.asyncio.Redis
) -> None:
    for text in ("{broken", json.dumps(build_state_event(TaskState.RUNNING) | {"schema": 99}), "[]"):
        await raw.xadd(wire.EVENTS_STREAM, {wire.EVENT_FIELD: text})
    entries = await eventually(lambda: read(live))
    assert [(entry.event, entry.is_newer_schema) for entry in entries] == [(None, False), (None, True), (None, False)]


async def test_what_a_lost_answer_held_is_read_again() -> None:
    """The server hangs after it handed entries out: they belong to this consumer and come first afterwards."""
    server = Valkey()
    server.start()
    live = LiveStore(server.url, timeout_seconds=0.3)
    raw = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    try:
        await read(live)
        ids = await add(raw, 2)
        # Another connection takes them under the same name: for this process the answer is lost.
        await raw.xreadgroup(wire.RECORDER_GROUP, "a", {wire.EVENTS_STREAM: ">"})
        server.pause()
        with pytest.raises(StoreUnavailableError):
            await read(live)
        server.resume()
        assert ids_of(await eventually(lambda: read(live))) == ids
    finally:
        await live.close()
        await raw.aclose()
        server.stop()


async def _removed(live: LiveStore) -> bool:
    return await live.remove_idle_consumers(0.001) > 0
