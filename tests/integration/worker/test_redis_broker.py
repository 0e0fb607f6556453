"""On a Redis/Valkey broker the worker counts deliveries and keeps its messages apart, as RabbitMQ does elsewhere."""

import os
import signal
from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis
from tests.integration.worker.harness import Bench, wait_dead
from tests.support.brokers import Valkey
from tests.support.waiting import eventually_sync

from taskfleet_worker import _wire


@pytest.fixture(scope="module")
def busy(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A queue on Valkey with one prefork worker and a delivery limit of 2."""
    made = Bench(valkey, valkey, tmp_path_factory.mktemp("redis"))
    try:
        made.start_worker("prefork", 2, delivery_limit=2)
        yield made
    finally:
        made.close()


def test_a_message_in_hand_is_in_the_queues_own_hash(busy: Bench) -> None:
    name = uuid4().hex
    task_id = busy.send("hold", name)
    eventually_sync(lambda: busy.trace(name + ".started"), 20)
    (message,) = busy.redis.hvals(_wire.UNACKED_KEY_PREFIX + busy.queue)
    assert task_id in message
    assert busy.redis.zcard(_wire.UNACKED_INDEX_KEY_PREFIX + busy.queue) == 1
    busy.touch(name)
    assert busy.final(task_id)["result"] == "released"
    eventually_sync(busy.is_drained, 20)


def test_past_the_delivery_limit_a_task_is_dead(busy: Bench) -> None:
    """A limit of n gives n + 1 runs, as on RabbitMQ."""
    name = uuid4().hex
    task_id = busy.send("reject_always", name)
    event = busy.final(task_id)
    assert (event["state"], event["error"]["type"]) == ("dead", "DeliveryLimitError")
    assert len(busy.trace(name)) == 3
    assert busy.result(task_id).state == "FAILURE"
    eventually_sync(busy.is_drained, 20)


def test_a_task_whose_process_is_killed_runs_again(busy: Bench) -> None:
    task_id = busy.send("die", uuid4().hex)
    assert busy.final(task_id, 40)["result"] == "survived"


def test_leaving_puts_back_what_cannot_end(busy: Bench) -> None:
    worker = busy.start_worker("prefork", 1, grace_seconds=1)
    busy.workers[0].process.terminate()
    name = uuid4().hex
    task_id = busy.send("hold", name)
    eventually_sync(lambda: busy.trace(name + ".started"), 20)
    os.kill(worker.process.pid, signal.SIGTERM)
    assert wait_dead(worker.process) == 75
    with redis.Redis.from_url(busy.broker.url) as client:
        assert client.llen(busy.queue) == 1, "back in the queue at once, not after the visibility timeout"
        assert client.hlen(_wire.UNACKED_KEY_PREFIX + busy.queue) == 0
    assert busy.live(task_id)["state"] == "running"
