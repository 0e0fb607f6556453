"""Done means recorded: while the store is away or full nothing is acknowledged, and nothing is lost."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.integration.worker.harness import Bench
from tests.support.brokers import REGISTER_SECONDS, RabbitMQ, Valkey
from tests.support.waiting import eventually_sync

from taskfleet_worker import _wire

made_at: dict[str, float] = {}


@pytest.fixture(scope="module")
def own_store() -> Iterator[Valkey]:
    """A store this module may kill."""
    server = Valkey()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def fragile(
    request: pytest.FixtureRequest, rabbitmq43: RabbitMQ, own_store: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A queue with one worker whose store may be killed."""
    made = Bench(rabbitmq43, own_store, tmp_path_factory.mktemp(request.param))
    made_at[made.queue] = time.monotonic()
    try:
        made.start_worker(request.param, 2)
        yield made
    finally:
        made.close()


def _counts(bench: Bench) -> tuple[int, int]:
    """Messages ready and in hand; asserts for the sake of the error's text."""
    counts = bench.depth() - bench.unacknowledged(), bench.unacknowledged()
    assert counts == (0, 1)
    return counts


on_prefork = pytest.mark.parametrize("fragile", ["prefork"], indirect=True)


@pytest.mark.parametrize("fragile", ["prefork", "threads", "gevent"], indirect=True)
def test_a_task_is_acknowledged_only_once_its_end_is_recorded(fragile: Bench) -> None:
    name = uuid4().hex
    task_id = fragile.send("hold", name)
    eventually_sync(lambda: fragile.trace(name + ".started"), 20)
    fragile.store.kill()
    fragile.touch(name)
    eventually_sync(lambda: fragile.trace(name + ".ended"), 20)
    # The end of the task and the absence of an acknowledgement: the log says that it waits.
    eventually_sync(lambda: "is not recorded yet" in fragile.workers[0].log(), 20)
    eventually_sync(lambda: _counts(fragile) == (0, 1), 10)
    fragile.store.start()
    assert fragile.final(task_id)["result"] == "released"
    eventually_sync(fragile.is_drained, 20)
    assert fragile.trace(name + ".started") == ["x"]


@on_prefork
def test_what_the_event_loop_sees_is_not_acknowledged_before_it_is_recorded(fragile: Bench) -> None:
    """A hard time limit is found by the parent, which must neither block nor acknowledge too soon."""
    (worker,) = fragile.workers
    task_id = fragile.send("too_long")
    fragile.until(task_id, "running")
    fragile.store.kill()
    eventually_sync(lambda: f"state of task {task_id} is not recorded yet" in worker.log(), 20)
    eventually_sync(lambda: _counts(fragile) == (0, 1), 10)
    os.kill(worker.process.pid, 0)
    fragile.store.start()
    assert fragile.final(task_id)["error"]["type"].endswith("TimeLimitExceeded")
    eventually_sync(fragile.is_drained, 20)


@on_prefork
def test_a_cancellation_missed_during_an_outage_is_found_in_the_set(fragile: Bench) -> None:
    (worker,) = fragile.workers
    name, cancelled, held = uuid4().hex, uuid4().hex, uuid4().hex
    blockers = [fragile.send("hold", held) for _ in range(2)]
    eventually_sync(lambda: len(fragile.trace(held + ".started")) == 2, 20)
    fragile.send("note", name, task_id=cancelled)
    fragile.store.restart()
    fragile.redis.zadd(_wire.CANCELLED_KEY_PREFIX + fragile.queue, {cancelled: 2_000_000_000})
    inspect = fragile.app.control.inspect(timeout=1)
    eventually_sync(lambda: any(cancelled in ids for ids in (inspect.revoked() or {}).values()), 30)
    fragile.touch(held)
    for blocker in blockers:
        fragile.final(blocker)
    assert fragile.final(cancelled)["state"] == "cancelled"
    assert fragile.trace(name) == []
    assert worker.process.is_running


@on_prefork
def test_a_broker_restart_loses_nothing(fragile: Bench, rabbitmq43: RabbitMQ) -> None:
    """The worker keeps its task over the restart; the second delivery finds it finished or repeats it."""
    (worker,) = fragile.workers
    name = uuid4().hex
    task_id, waiting = fragile.send("hold", name), [fragile.send("noop") for _ in range(3)]
    eventually_sync(lambda: fragile.trace(name + ".started"), 20)
    time.sleep(max(0.0, REGISTER_SECONDS - (time.monotonic() - made_at[fragile.queue])))
    rabbitmq43.restart()
    fragile.touch(name)
    for each in (task_id, *waiting):
        assert fragile.final(each, 60)["state"] == "succeeded"
    after = fragile.send("add", 1, 1)
    assert fragile.final(after, 60)["result"] == 2
    eventually_sync(fragile.is_drained, 30)
    assert worker.process.is_running
    beat = worker.heartbeat() or {}
    assert beat["consuming"] is True


@pytest.mark.parametrize("fragile", ["gevent"], indirect=True)
def test_cancel_reaches_a_worker_by_its_channel(fragile: Bench) -> None:
    name = uuid4().hex
    task_id = fragile.send("hold", name)
    eventually_sync(lambda: fragile.trace(name + ".started"), 20)
    order = json.dumps({"type": "cancel", "id": task_id, "terminate": True})
    fragile.redis.publish(_wire.CONTROL_CHANNEL_PREFIX + fragile.queue, order)
    assert fragile.final(task_id)["state"] == "cancelled"
    assert fragile.trace(name + ".ended") == []


def test_a_full_stream_holds_tasks_back(rabbitmq43: RabbitMQ, own_store: Valkey, tmp_path: Path) -> None:
    bench = Bench(rabbitmq43, own_store, tmp_path)
    try:
        _fill_stream(bench)
    finally:
        bench.close()


def _fill_stream(fragile: Bench) -> None:
    fragile.redis.delete(_wire.EVENTS_STREAM)
    fragile.start_worker("prefork", 1, env={"TASKFLEET_MAX_EVENTS": "3"})
    ids = [fragile.send("noop") for _ in range(5)]
    eventually_sync(lambda: fragile.redis.xlen(_wire.EVENTS_STREAM) == 3, 20)
    eventually_sync(lambda: "over its bound" in fragile.workers[0].log(), 20)
    assert fragile.redis.xlen(_wire.EVENTS_STREAM) == 3
    fragile.redis.delete(_wire.EVENTS_STREAM)
    for task_id in ids:
        assert fragile.final(task_id)["state"] == "succeeded"
