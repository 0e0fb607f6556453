"""Updates reach their readers: none is missed between subscribing and reading, nor over a lost connection."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence

import pytest
import redis.asyncio
from tests.support.brokers import Valkey
from tests.support.events import build_progress_event, build_state_event, new_id
from tests.support.waiting import eventually

from taskfleet_api.live import LiveStore, Subscription
from taskfleet_api.live.client import open_connection
from taskfleet_api.live.hub import Hub
from taskfleet_core import wire
from taskfleet_core.ending import end_task
from taskfleet_core.events import TaskEvent
from taskfleet_core.states import TaskState


@pytest.fixture
async def live(valkey: Valkey) -> AsyncIterator[LiveStore]:
    valkey.flush()
    store = LiveStore(valkey.url, timeout_seconds=1.0)
    await store.start()
    yield store
    await store.close()


async def next_event(subscription: Subscription, seconds: float = 5.0) -> TaskEvent:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        event = await subscription.next(deadline - time.monotonic())
        if event is not None:
            return event
    raise AssertionError("no event came")


async def channel_count(client: redis.asyncio.Redis) -> int:
    return len(await client.pubsub_channels(wire.UPDATES_CHANNEL_PREFIX + "*"))


async def test_a_subscriber_gets_the_present_state_and_then_each_change(live: LiveStore) -> None:
    task_id = str(new_id())
    await live.announce(build_state_event(TaskState.QUEUED, task_id))
    async with live.subscribe([task_id]) as updates:
        assert updates.connected
        assert (await next_event(updates))["state"] == "queued"
        await live.announce(build_state_event(TaskState.RUNNING, task_id))
        await live.announce(build_state_event(TaskState.SUCCEEDED, task_id))
        assert [(await next_event(updates))["state"] for _ in range(2)] == ["running", "succeeded"]
        assert await updates.next(0.01) is None


async def test_no_change_is_missed_however_it_falls_into_the_subscribing(live: LiveStore) -> None:
    """200 tasks finish while 200 readers come: each sees the final state, from the channel or from the first read."""
    ids = [str(new_id()) for _ in range(200)]

    async def read(task_id: str) -> str:
        async with live.subscribe([task_id]) as updates:
            return (await next_event(updates))["state"]

    async def finish(task_id: str) -> None:
        await live.announce(build_state_event(TaskState.SUCCEEDED, task_id))

    results = await asyncio.gather(*(step for task_id in ids for step in (read(task_id), finish(task_id))))
    assert [state for state in results if state] == ["succeeded"] * 200


async def test_channels_are_shared_and_left_with_the_last_reader(live: LiveStore, valkey: Valkey) -> None:
    client = redis.asyncio.Redis.from_url(valkey.url, decode_responses=True)
    task_id = str(new_id())
    async with live.subscribe([task_id]) as first:
        async with live.subscribe([task_id, str(new_id())]) as second:
            assert await channel_count(client) == 2
            await live.announce(build_state_event(TaskState.RUNNING, task_id))
            assert (await next_event(first))["id"] == (await next_event(second))["id"] == task_id
        await eventually(lambda: _equals(channel_count(client), 1))
        await live.announce(build_state_event(TaskState.SUCCEEDED, task_id))
        assert (await next_event(first))["state"] == "succeeded"
    await eventually(lambda: _equals(channel_count(client), 0))
    await client.aclose()


async def test_leaving_and_coming_back_at_once_loses_nothing(live: LiveStore) -> None:
    task_id = str(new_id())
    for attempt in range(1, 51):
        async with live.subscribe([task_id]):
            pass
        async with live.subscribe([task_id]) as updates:
            await live.announce(build_state_event(TaskState.RUNNING, task_id, attempt=attempt))
            while (await next_event(updates))["attempt"] < attempt:
                pass


async def test_after_a_lost_connection_the_state_is_read_again() -> None:
    """What happened while the connection was away arrives with the next one."""
    server = Valkey()
    server.start()
    live = LiveStore(server.url, timeout_seconds=0.5)
    other = LiveStore(server.url, timeout_seconds=0.5)
    task_id = str(new_id())
    try:
        await live.start()
        async with live.subscribe([task_id]) as updates:
            await live.announce(build_state_event(TaskState.RUNNING, task_id))
            assert (await next_event(updates))["state"] == "running"
            server.kill()
            assert await updates.next(5) is None, "the loss wakes the reader"
            assert not updates.connected
            server.start()
            # Before the reader's hub is back: nothing but the second read can tell it.
            await eventually(lambda: _announced(other, build_state_event(TaskState.SUCCEEDED, task_id)))
            assert (await next_event(updates))["state"] == "succeeded"
            await eventually(lambda: updates.connected)
    finally:
        await live.close()
        await other.close()
        server.stop()


async def test_a_cut_of_the_one_connection_is_healed(live: LiveStore, valkey: Valkey) -> None:
    client = redis.asyncio.Redis.from_url(valkey.url, decode_responses=True)
    ids = [str(new_id()) for _ in range(1200)]
    async with live.subscribe(ids) as updates:
        await client.client_kill_filter(_type="pubsub")
        assert await updates.next(5) is None
        await eventually(lambda: updates.connected)
        await live.announce(build_state_event(TaskState.SUCCEEDED, ids[-1]))
        assert (await next_event(updates))["id"] == ids[-1]
    await client.aclose()


async def test_a_server_that_hangs_is_noticed() -> None:
    server = Valkey()
    server.start()
    live = LiveStore(server.url, timeout_seconds=0.2)
    try:
        await live.start()
        async with live.subscribe([str(new_id())]) as updates:
            server.pause()
            await eventually(lambda: not updates.connected)
            server.resume()
            await eventually(lambda: updates.connected)
    finally:
        await live.close()
        server.stop()


async def test_without_redis_a_reader_is_told_at_once_and_joins_later() -> None:
    server = Valkey()
    live = LiveStore(server.url, timeout_seconds=1.0)
    try:
        await live.start()
        await eventually(lambda: not live.connected)
        started = time.monotonic()
        async with live.subscribe([str(new_id())]) as updates:
            assert time.monotonic() - started < 1.5
            assert not updates.connected
            server.start()
            await eventually(lambda: updates.connected)
    finally:
        await live.close()
        server.stop()


async def test_a_slow_reader_loses_steps_but_never_the_latest(live: LiveStore, valkey: Valkey) -> None:
    client = redis.asyncio.Redis.from_url(valkey.url, decode_responses=True)
    task_id = str(new_id())
    async with live.subscribe([task_id]) as updates:
        await live.announce(build_state_event(TaskState.RUNNING, task_id))
        async with client.pipeline(transaction=False) as pipe:
            for count in range(1, 2001):
                pipe.publish(wire.updates_channel(task_id), json.dumps(build_progress_event(task_id, count, count)))
            await pipe.execute()
        await live.announce(build_state_event(TaskState.SUCCEEDED, task_id))
        seen: list[TaskEvent] = []
        while not seen or seen[-1]["state"] != "succeeded":
            if not seen:
                await eventually(lambda: len(updates._buffer) > 1 and updates._buffer[-1]["state"] == "succeeded")
            seen.append(await next_event(updates))
        assert len(seen) < 1000
        assert [event["progress_count"] for event in seen if event["kind"] == "progress"][-1] == 2000
    await client.aclose()


async def _equals(count: "asyncio.Future[int] | object", expected: int) -> bool:
    return await count == expected  # type: ignore[misc]


async def _announced(live: LiveStore, event: TaskEvent) -> bool:
    from taskfleet_core.errors import StoreUnavailableError

    try:
        return await live.announce(event)
    except StoreUnavailableError:
        return False


async def test_following_ends_also_when_a_read_misses_its_cancellation(valkey: Valkey) -> None:
    """On Python 3.11 redis-py does: the process could not end."""
    reading = asyncio.Event()

    async def fetch_events(ids: Sequence[str]) -> list[TaskEvent]:
        reading.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return []

    hub = Hub(lambda: open_connection(valkey.url, timeout_seconds=5), fetch_events, timeout_seconds=5)
    running = asyncio.create_task(hub.run())

    async def follow() -> None:
        async with hub.subscribe([str(new_id())]):
            await asyncio.sleep(3600)

    following = asyncio.create_task(follow())
    async with asyncio.timeout(10):
        await reading.wait()
        await end_task(running)
        await end_task(following)
