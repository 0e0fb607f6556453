"""One worker for several queues: all are served, by weight, and none of their tasks waits in its hands for long."""

import os
import signal
from pathlib import Path
from uuid import uuid4

import pytest
from tests.integration.worker.harness import Bench, wait_dead
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.waiting import eventually_sync

from taskfleet_worker import _wire


@pytest.mark.parametrize("broker", ["rabbitmq43", "rabbitmq310", "valkey"])
def test_tasks_of_several_queues_start_by_weight_and_belong_to_their_queue(
    request: pytest.FixtureRequest, valkey: Valkey, tmp_path: Path, broker: str
) -> None:
    bench = Bench(request.getfixturevalue(broker), valkey, tmp_path, others=1)
    try:
        name, (other,) = uuid4().hex, bench.others
        first = bench.send("retry_in", name + ".retried", 1, queue=other)
        for _ in range(30):
            bench.send("say", name, "main")
            bench.send("say", name, "other", queue=other)
        cancelled = bench.send("say", name, "cancelled", queue=other)
        bench.redis.zadd(_wire.CANCELLED_KEY_PREFIX + other, {cancelled: 4102444800})
        worker = bench.start_worker("prefork", 1, weights={bench.queue: 3, other: 1})
        assert (worker.heartbeat() or {})["queues"] == [bench.queue, other]
        assert bench.redis.exists(_wire.CATALOG_KEY_PREFIX + other)
        eventually_sync(lambda: len(bench.trace(name)) == 60, 60)
        words = bench.trace(name)
        assert 6 <= words[:32].count("other") <= 10, words  # three to one while both wait
        assert set(words[46:]) == {"other"}, "what one queue does not need goes to the other"
        event = bench.final(first)
        assert (event["state"], event["queue"]) == ("succeeded", other)
        assert bench.final(cancelled)["state"] == "cancelled"
    finally:
        bench.close()


def test_what_has_no_slot_goes_to_another_worker(rabbitmq43: RabbitMQ, valkey: Valkey, tmp_path: Path) -> None:
    """RabbitMQ gives a worker of two queues two messages for its one slot; neither may wait behind a long task."""
    bench = Bench(rabbitmq43, valkey, tmp_path, others=1)
    try:
        (other,) = bench.others
        weights = {bench.queue: 1, other: 1}
        bench.start_worker("prefork", 1, weights=weights)
        long, late = uuid4().hex, uuid4().hex
        held = bench.send("hold", long)
        eventually_sync(lambda: bench.trace(long + ".started"), 20)
        waiting = bench.send("say", late, "x", queue=other)
        eventually_sync(lambda: bench.unacknowledged(other) == 0 and bench.ready(other) == 1, 20)
        bench.start_worker("prefork", 1, weights=weights)
        assert bench.final(waiting, 20)["state"] == "succeeded"
        bench.touch(long)
        assert bench.final(held)["state"] == "succeeded"
        again = bench.send("say", late, "y", queue=other)
        assert bench.final(again)["state"] == "succeeded"
    finally:
        bench.close()


@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_every_pool_serves_several_queues(rabbitmq43: RabbitMQ, valkey: Valkey, tmp_path: Path, pool: str) -> None:
    bench = Bench(rabbitmq43, valkey, tmp_path, others=1)
    try:
        (other,) = bench.others
        name = uuid4().hex
        bench.start_worker(pool, 1 if pool == "solo" else 2, weights={bench.queue: 1, other: 1})
        sent = [bench.send("say", name, "x", queue=queue) for _ in range(10) for queue in (bench.queue, other)]
        for task_id in sent:
            assert bench.final(task_id)["state"] == "succeeded"
        assert len(bench.trace(name)) == 20
    finally:
        bench.close()


def test_a_leaving_worker_gives_back_what_has_no_slot(rabbitmq43: RabbitMQ, valkey: Valkey, tmp_path: Path) -> None:
    """At once, not when its long task has ended."""
    bench = Bench(rabbitmq43, valkey, tmp_path, others=1)
    try:
        (other,) = bench.others
        worker = bench.start_worker("prefork", 1, weights={bench.queue: 1, other: 1})
        long = uuid4().hex
        held = bench.send("hold", long)
        eventually_sync(lambda: bench.trace(long + ".started"), 20)
        waiting = bench.send("say", long + ".late", "x", queue=other)
        os.kill(worker.process.pid, signal.SIGTERM)
        eventually_sync(lambda: bench.ready(other) == 1, 20)
        assert worker.process.is_running
        bench.touch(long)
        assert wait_dead(worker.process) == 0
        assert bench.final(held)["state"] == "succeeded"
        assert (bench.live(waiting), bench.trace(long + ".late")) == ({}, [])
    finally:
        bench.close()
