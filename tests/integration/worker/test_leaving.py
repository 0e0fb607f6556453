"""Leaving and fencing: running tasks end, no new ones start, and what cannot end in time goes back once."""

import json
import os
import signal
from uuid import uuid4

import pytest
from tests.integration.worker.harness import Bench, is_alive, wait_dead
from tests.support.waiting import eventually_sync

from taskfleet_worker import _wire

POOLS = ["prefork", "threads", "gevent", "solo"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_leaving_worker_finishes_its_task_and_takes_no_other(bench: Bench, pool: str) -> None:
    worker = bench.start_worker(pool, 1)
    running, other = uuid4().hex, uuid4().hex
    task_id = bench.send("hold", running)
    eventually_sync(lambda: bench.trace(running + ".started"), 20)
    os.kill(worker.process.pid, signal.SIGTERM)
    if pool != "solo":
        eventually_sync(lambda: (worker.heartbeat() or {}).get("consuming") is False, 20)
        eventually_sync(lambda: "leaving" in worker.log(), 20)
    later = bench.send("note", other)
    eventually_sync(lambda: (worker.heartbeat() or {}).get("tasks") == [task_id], 20)
    bench.touch(running)
    assert wait_dead(worker.process) == 0
    assert bench.final(task_id)["result"] == "released"
    eventually_sync(lambda: bench.depth() == 1, 20)
    assert (bench.live(later), bench.trace(other)) == ({}, [])
    assert worker.heartbeat() is None
    assert "redelivered" not in bench.live(task_id)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_what_outlasts_the_grace_period_is_handed_back_once(bench: Bench, pool: str) -> None:
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
    if pool != "prefork":
        return
    bench.start_worker("prefork", 1)
    eventually_sync(lambda: len(bench.trace(name + ".started")) == 2, 20)
    bench.touch(name)
    event = bench.final(task_id)
    assert (event["state"], event["redelivered"]) == ("succeeded", True)
    eventually_sync(bench.is_drained, 20)
    assert len(bench.trace(name + ".started")) == 2


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_fenced_worker_takes_nothing_until_the_fence_is_gone(bench: Bench, pool: str) -> None:
    worker = bench.start_worker(pool, 1, pod_uid="pod-1")
    key = _wire.FENCE_KEY_PREFIX + "pod-1"
    bench.redis.set(key, "1", ex=30)
    eventually_sync(lambda: (worker.heartbeat() or {}).get("consuming") is False, 20)
    eventually_sync(lambda: "fenced" in worker.log(), 20)
    task_id = bench.send("noop")
    eventually_sync(lambda: bench.depth() == 1, 20)
    assert bench.live(task_id) == {}
    bench.redis.delete(key)
    assert bench.final(task_id)["state"] == "succeeded"
    assert (worker.heartbeat() or {})["pod_uid"] == "pod-1"


def test_heartbeat_catalog_health_file_and_logs(bench: Bench) -> None:
    worker = bench.start_worker("threads", 3, max_task_seconds=60)
    done, name = bench.send("add", 1, 2), uuid4().hex
    bench.final(done)
    held = bench.send("hold", name)
    eventually_sync(lambda: (worker.heartbeat() or {}).get("busy") == 1, 20)
    beat = worker.heartbeat() or {}
    expected = {
        "schema": 1,
        "queue": bench.queue,
        "host": worker.host,
        "pool": "threads",
        "slots": 3,
        "consuming": True,
    }
    assert expected.items() <= beat.items()
    assert (beat["tasks"], beat["completed"], beat["failed"]) == ([held], 1, 0)
    assert beat["pid"] == worker.process.pid
    catalog = bench.redis.hgetall(_wire.CATALOG_KEY_PREFIX + bench.queue)
    schema = json.loads(catalog["everything.add"])
    assert schema["required"] == ["x"]
    assert schema["properties"]["y"] == {"type": "integer", "default": 1}
    assert not [task for task in catalog if task.startswith("celery.")]
    before = worker.health_file.stat().st_mtime
    eventually_sync(lambda: worker.health_file.stat().st_mtime > before, 20)
    bench.touch(name)
    bench.final(held)
    lines = [json.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    assert any(line.get("task_id") == done and line["queue"] == bench.queue for line in lines)


def test_an_app_with_a_backend_of_its_own_is_refused_by_name(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match=r"task foreign\.own uses the result backend DatabaseBackend of its own"):
        bench.start_worker("solo", 1, env={"OWN_BACKEND": "1"})
