"""What is lost comes back: the lease after a flush, messages of dead workers on a Valkey broker, dead letters."""

import json
import time
from uuid import UUID

from tests.integration.background.conftest import Servers, Store
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.events import build_heartbeat, build_new_task, build_state_event
from tests.support.rabbit import publish_raw
from tests.support.waiting import eventually

from taskfleet_core import wire
from taskfleet_core.states import TaskState


async def test_tasks_lost_with_the_brokers_data_run_again_as_the_next_attempt(
    servers: Servers, store: Store, valkey: Valkey
) -> None:
    await store.register("q")
    async with servers.replica() as replica:
        ids = await replica.submit([build_new_task() for _ in range(20)])
        await eventually(lambda: _is(replica.states(ids), {"queued"}))
        valkey.flush()
        await store.register("q")
        await eventually(lambda: _is(store.queued("q"), 20), timeout_seconds=20)
        record = await eventually(lambda: _at_attempt(replica, ids[0], 2))
        assert [attempt.state for attempt in record.earlier_attempts] == ["queued"]
        message = json.loads(await store.client.lindex("q\x06\x169", 0))
        assert message["headers"][wire.HEADER_REPUBLISHED] is True
        assert message["headers"][wire.HEADER_ATTEMPT] == 2


async def test_two_replicas_start_the_next_attempt_of_a_lost_task_once(
    servers: Servers, store: Store, valkey: Valkey
) -> None:
    await store.register("q")
    async with servers.replica() as first, servers.replica():
        ids = await first.submit([build_new_task() for _ in range(50)])
        await eventually(lambda: _is(first.states(ids), {"queued"}))
        valkey.flush()
        await store.register("q")
        await eventually(lambda: _is(store.queued("q"), 50), timeout_seconds=20)
        await eventually(lambda: _is(first.states(ids), {"queued"}))
        found = await first.records.get_many(ids)
        assert {record.attempt for record in found.values()} == {2}


async def test_nothing_is_lost_that_somebody_still_knows(servers: Servers, store: Store, valkey: Valkey) -> None:
    """A worker names one, the live state of another is ahead of its record: only the third runs again."""
    await store.register("q")
    async with servers.replica() as replica:
        ids = held, finished, lost = await replica.submit([build_new_task() for _ in range(3)])
        await eventually(lambda: _is(replica.states(ids), {"queued"}))
        await replica.background._supervisor.stop("recorder-0", "recorder-1", "recorder-reclaim")
        for key in ("q", "q\x06\x169"):
            await store.client.delete(key)
        await store.beat(build_heartbeat(tasks=(str(held),)))
        await store.emit(build_state_event(TaskState.SUCCEEDED, finished))
        await eventually(lambda: _at_attempt(replica, lost, 2), timeout_seconds=20)
        assert (await replica.get(held)).attempt == (await replica.get(finished)).attempt == 1


async def test_a_queue_with_messages_is_never_searched_for_lost_tasks(servers: Servers, store: Store) -> None:
    await store.register("q")
    async with servers.replica() as replica:
        ids = await replica.submit([build_new_task() for _ in range(2)])
        await eventually(lambda: _is(replica.states(ids), {"queued"}))
        # Twice the lease passes by the broker's own clock of looks.
        await eventually(lambda: replica.background.monitor.get("q").ready == 2)
        assert replica.background.monitor.quiet_seconds("q") is None


async def test_messages_of_a_dead_worker_go_back_to_the_head_of_the_queue_once(servers: Servers, store: Store) -> None:
    await store.register("q")
    async with servers.replica() as first, servers.replica():
        (task_id, other) = await first.submit([build_new_task(priority=9), build_new_task(priority=9)])
        await eventually(lambda: _is(store.queued("q"), 2))
        await take(store, "q", "tag-1")
        await take(store, "q", "tag-2")
        await store.beat(build_heartbeat(tasks=(str(other),)))
        await eventually(lambda: _is(store.queued("q"), 1))
        message = json.loads(await store.client.lindex("q", 0))
        assert message["headers"]["id"] == str(task_id)
        assert message["properties"]["delivery_info"]["redelivered"] is True
        assert list(await store.client.hgetall(wire.UNACKED_KEY_PREFIX + "q")) == ["tag-2"]
        await store.client.delete(wire.worker_key("q", "h1"))
        await eventually(lambda: _is(store.queued("q"), 2))


async def test_a_message_of_a_dead_worker_of_several_queues_goes_back_to_its_own(
    servers: Servers, store: Store
) -> None:
    for queue in ("q", "mail"):
        await store.register(queue)
    async with servers.replica() as replica:
        await replica.submit([build_new_task("mail", priority=9)])
        await eventually(lambda: _is(store.queued("mail"), 1))
        await take(store, "mail", "tag-1", worker="q")
        assert await store.queued("mail") == 0
        await eventually(lambda: _is(store.queued("mail"), 1), timeout_seconds=20)
        assert await store.queued("q") == 0
        assert await store.client.hlen(wire.UNACKED_KEY_PREFIX + "q") == 0


async def test_a_worker_that_speaks_again_in_time_keeps_its_message(servers: Servers, store: Store) -> None:
    await store.register("q")
    async with servers.replica(unacked_idle_seconds=60.0) as replica:
        (task_id,) = await replica.submit([build_new_task()])
        await eventually(lambda: _is(store.queued("q"), 1))
        await take(store, "q", "tag-1", key="q\x06\x169")
        await store.beat(build_heartbeat(tasks=(str(task_id),)))
        await eventually(lambda: replica.background.health()["unacked-reclaimer"].seconds_since_success is not None)
        assert await store.queued("q") == 0


async def test_a_message_that_was_delivered_too_often_makes_its_task_dead(
    rabbit_servers: Servers, rabbitmq43: RabbitMQ, store: Store
) -> None:
    import aio_pika

    await store.register("deadly", deliveryLimit=1)
    async with rabbit_servers.replica() as replica:
        await eventually(lambda: replica.background.declarer.is_declared("deadly"))
        (task_id,) = await replica.submit([build_new_task("deadly")])
        await eventually(lambda: _is(replica.states([task_id]), {"queued"}))
        connection = await aio_pika.connect(rabbit_servers.broker_url, timeout=10)
        async with connection, replica.live.subscribe([str(task_id)]) as updates:
            channel = await connection.channel()
            queue = await channel.get_queue("deadly", ensure=False)
            await eventually(lambda: _rejected_until_dead(queue, replica, task_id), timeout_seconds=20)
            event = await eventually(lambda: updates.next(1))
            assert event["state"] == "dead"
        record = await replica.get(task_id)
        assert json.loads(record.error or "")["type"] == "dead_letter.delivery_limit"
        started = await replica.records.start_attempt([task_id], record.updated_at)
        replica.background.dispatcher.offer(started)
        await eventually(lambda: _is(replica.states([task_id]), {"queued"}))
        assert (await replica.get(task_id)).attempt == 2


async def test_a_message_that_expires_in_the_queue_expires_its_task(
    rabbit_servers: Servers, rabbitmq43: RabbitMQ, store: Store
) -> None:
    """Also one that a plain Celery producer sent."""
    await store.register("brief", messageTTLSeconds=1)
    async with rabbit_servers.replica() as replica:
        await eventually(lambda: replica.background.declarer.is_declared("brief"))
        (task_id,) = await replica.submit([build_new_task("brief")])
        foreign = build_new_task("brief").id
        await publish_raw(
            rabbit_servers.broker_url, "brief", b"[[], {}, {}]", {"id": str(foreign), "task": "demo.add", "lang": "py"}
        )
        await eventually(lambda: _is(replica.states([task_id]), {"expired"}), timeout_seconds=20)
        record = await eventually(lambda: replica.records.get(foreign), timeout_seconds=20)
        assert record is not None
        assert record.state == "expired"


async def take(store: Store, queue: str, tag: str, key: str | None = None, *, worker: str | None = None) -> None:
    """What kombu does when a worker gets a message; `worker` is the first queue of one that serves several."""
    text = await store.client.rpop(key or queue)
    assert text is not None
    first = worker or queue
    await store.client.hset(wire.UNACKED_KEY_PREFIX + first, tag, json.dumps([json.loads(text), "", queue]))
    await store.client.zadd(wire.UNACKED_INDEX_KEY_PREFIX + first, {tag: time.time()})


async def _rejected_until_dead(queue: object, replica: object, task_id: UUID) -> bool:
    message = await queue.get(fail=False, timeout=10)  # type: ignore[attr-defined]
    if message is not None:
        await message.reject(requeue=True)
    return await replica.states([task_id]) == {"dead"}  # type: ignore[attr-defined, no-any-return]


async def _is(value: object, expected: object) -> bool:
    return await value == expected  # type: ignore[misc]


async def _at_attempt(replica: object, task_id: UUID, attempt: int) -> object:
    record = await replica.get(task_id)  # type: ignore[attr-defined]
    return record if record.attempt == attempt and record.state == "queued" else None
