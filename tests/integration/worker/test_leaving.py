"""Leaving and fencing: running tasks end, no new ones start, and what cannot end in time goes back once."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.integration.worker.harness import Bench, is_alive, wait_dead
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.waiting import eventually_sync

from taskfleet_worker import _wire


@pytest.fixture(scope="module")
def busy(
    request: pytest.FixtureRequest, rabbitmq43: RabbitMQ, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A queue with one worker of the pool in question; the last test of each pool makes it leave."""
    made = Bench(rabbitmq43, valkey, tmp_path_factory.mktemp(request.param))
    try:
        made.start_worker(request.param, 3 if request.param == "threads" else 1, pod_uid=f"pod-{request.param}")
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("busy", ["prefork", "gevent"], indirect=True)
def test_a_fenced_worker_takes_nothing_until_the_fence_is_gone(busy: Bench) -> None:
    (worker,) = busy.workers
    key = _wire.FENCE_KEY_PREFIX + (worker.heartbeat() or {})["pod_uid"]
    busy.redis.set(key, "1", ex=60)
    eventually_sync(lambda: (worker.heartbeat() or {}).get("consuming") is False, 20)
    eventually_sync(lambda: "fenced" in worker.log(), 20)
    task_id = busy.send("noop")
    eventually_sync(lambda: busy.depth() == 1, 20)
    assert busy.live(task_id) == {}
    busy.redis.delete(key)
    assert busy.final(task_id)["state"] == "succeeded"


@pytest.mark.parametrize("busy", ["threads"], indirect=True)
def test_heartbeat_catalog_health_file_and_logs(busy: Bench) -> None:
    (worker,) = busy.workers
    done, name = busy.send("add", 1, 2), uuid4().hex
    busy.final(done)
    held = busy.send("hold", name)
    eventually_sync(lambda: (worker.heartbeat() or {}).get("busy") == 1, 20)
    beat = worker.heartbeat() or {}
    expected = {
        "schema": 1,
        "queue": busy.queue,
        "host": worker.host,
        "pool": "threads",
        "slots": 3,
        "consuming": True,
    }
    assert expected.items() <= beat.items()
    assert (beat["tasks"], beat["completed"], beat["failed"]) == ([held], 1, 0)
    assert beat["pid"] == worker.process.pid
    indexed = busy.redis.zscore(_wire.WORKERS_INDEX_KEY, f"{_wire.WORKER_KEY_PREFIX}{busy.queue}:{worker.host}")
    assert indexed >= beat["at"] - 2
    catalog = busy.redis.hgetall(_wire.CATALOG_KEY_PREFIX + busy.queue)
    schema = json.loads(catalog["everything.add"])
    assert schema["required"] == ["x"]
    assert schema["properties"]["y"] == {"type": "integer", "default": 1}
    assert not [task for task in catalog if task.startswith("celery.")]
    before = worker.health_file.stat().st_mtime
    eventually_sync(lambda: worker.health_file.stat().st_mtime > before, 20)
    busy.touch(name)
    busy.final(held)
    lines = [json.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    assert any(line.get("task_id") == done and line["queue"] == busy.queue for line in lines)


@pytest.mark.parametrize("busy", ["prefork", "threads", "gevent", "solo"], indirect=True)
def test_a_leaving_worker_finishes_its_task_and_takes_no_other(busy: Bench) -> None:
    (worker,) = busy.workers
    running, other = uuid4().hex, uuid4().hex
    task_id = busy.send("hold", running)
    eventually_sync(lambda: busy.trace(running + ".started"), 20)
    os.kill(worker.process.pid, signal.SIGTERM)
    if (worker.heartbeat() or {})["pool"] != "solo":
        eventually_sync(lambda: (worker.heartbeat() or {}).get("consuming") is False, 20)
        eventually_sync(lambda: "leaving" in worker.log(), 20)
    later = busy.send("note", other)
    eventually_sync(lambda: (worker.heartbeat() or {}).get("tasks") == [task_id], 20)
    busy.touch(running)
    assert wait_dead(worker.process) == 0
    assert busy.final(task_id)["result"] == "released"
    eventually_sync(lambda: busy.depth() == 1, 20)
    assert (busy.live(later), busy.trace(other)) == ({}, [])
    assert worker.heartbeat() is None
    assert "redelivered" not in busy.live(task_id)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_what_outlasts_the_grace_period_is_handed_back_at_once(bench: Bench, pool: str) -> None:
    worker = bench.start_worker(pool, 1, grace_seconds=1)
    name = uuid4().hex
    task_id = bench.send("hold", name)
    eventually_sync(lambda: bench.trace(name + ".started"), 20)
    children = worker.children()
    os.kill(worker.process.pid, signal.SIGTERM)
    assert wait_dead(worker.process) == 75
    if pool == "prefork":
        eventually_sync(lambda: not any(is_alive(pid) for pid in children), 20)
    assert eventually_sync(lambda: bench.depth() == 1, 20)
    assert bench.live(task_id)["state"] == "running"


@pytest.mark.parametrize("broker", ["rabbitmq43", "valkey"])
def test_a_task_handed_back_again_and_again_runs_once_each_time_and_is_not_taken_for_poison(
    request: pytest.FixtureRequest, valkey: Valkey, tmp_path: Path, broker: str
) -> None:
    """With a delivery limit of 1 a task that lost three workers would be dead; three that left are no fault of its."""
    bench = Bench(request.getfixturevalue(broker), valkey, tmp_path)
    try:
        bench.limit_deliveries(1)
        name = uuid4().hex
        task_id = bench.send("hold", name)
        for runs in (1, 2, 3):
            worker = bench.start_worker("prefork", 1, grace_seconds=1, delivery_limit=1)
            eventually_sync(lambda expected=runs: len(bench.trace(name + ".started")) == expected, 20)
            began = time.monotonic()
            os.kill(worker.process.pid, signal.SIGTERM)
            assert wait_dead(worker.process) == 75
            assert time.monotonic() - began < 10, "the grace period and a moment"
            eventually_sync(lambda: bench.depth() == 1, 20)
        bench.start_worker("prefork", 1, delivery_limit=1)
        eventually_sync(lambda: len(bench.trace(name + ".started")) == 4, 20)
        bench.touch(name)
        event = bench.final(task_id)
        assert (event["state"], event["redelivered"], event["deliveries"]) == ("succeeded", True, 4)
        eventually_sync(bench.is_drained, 20)
        assert len(bench.trace(name + ".started")) == 4
    finally:
        bench.close()


def test_an_app_with_a_backend_of_its_own_is_refused_by_name(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match=r"task foreign\.own uses the result backend DatabaseBackend of its own"):
        bench.start_worker("solo", 1, env={"OWN_BACKEND": "1"})
