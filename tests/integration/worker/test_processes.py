"""What only the prefork pool can do: time limits, terminating, and surviving kill -9 of its processes."""

import json
import os
import signal
from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.integration.worker.harness import Bench
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.waiting import eventually_sync

from taskfleet_worker import _wire


@pytest.fixture(scope="module")
def busy(rabbitmq43: RabbitMQ, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A queue with one prefork worker."""
    made = Bench(rabbitmq43, valkey, tmp_path_factory.mktemp("processes"))
    try:
        made.start_worker("prefork", 2)
        yield made
    finally:
        made.close()


def test_hard_and_soft_time_limits_end_visibly(busy: Bench) -> None:
    hard, soft, retried = busy.send("too_long"), busy.send("softly"), busy.send("too_long", max_attempts=2)
    by_message = busy.send("sleep", 30, time_limit=1)
    assert busy.final(hard)["error"]["type"].endswith("TimeLimitExceeded")
    assert busy.final(soft)["result"] == "cleaned up"
    assert busy.until(retried, "retrying")["ends_attempt"] is True
    assert busy.final(by_message)["state"] == "failed"


def test_a_soft_limit_behind_the_hard_one_does_not_hold_it_up(busy: Bench) -> None:
    late = busy.send("sleep", 30, soft_time_limit=20, time_limit=1)
    assert busy.final(late)["error"]["type"] == "billiard.exceptions.TimeLimitExceeded", "and not the soft one's error"


def test_a_running_task_is_terminated_only_when_that_is_asked(busy: Bench) -> None:
    kept, ended = uuid4().hex, uuid4().hex
    kept_id, ended_id = busy.send("hold", kept), busy.send("hold", ended)
    for name in (kept, ended):
        eventually_sync(lambda name=name: busy.trace(name + ".started"), 20)
    for task_id, terminate in ((kept_id, False), (ended_id, True)):
        order = {"type": "cancel", "id": task_id, "terminate": terminate}
        busy.redis.publish(_wire.CONTROL_CHANNEL_PREFIX + busy.queue, json.dumps(order))
    assert busy.final(ended_id)["state"] == "cancelled"
    assert busy.result(ended_id).state == "REVOKED"
    assert busy.until(kept_id, "running")
    busy.touch(kept)
    assert busy.final(kept_id)["result"] == "released"
    assert busy.trace(ended + ".ended") == []


def test_celerys_revoke_with_terminate_works(busy: Bench) -> None:
    name = uuid4().hex
    task_id = busy.send("hold", name, attempt=None)
    eventually_sync(lambda: busy.trace(name + ".started"), 20)
    busy.app.control.revoke(task_id, terminate=True)
    assert busy.final(task_id)["state"] == "cancelled"


def test_a_task_whose_process_is_killed_runs_again(busy: Bench) -> None:
    name = uuid4().hex
    task_id = busy.send("die", name)
    event = busy.final(task_id, 60)
    assert (event["state"], event["result"], event["redelivered"]) == ("succeeded", "survived", True)
    assert len(busy.trace(name)) == 2


def test_a_process_killed_from_outside_loses_nothing(busy: Bench) -> None:
    name = uuid4().hex
    task_id = busy.send("hold", name)
    eventually_sync(lambda: busy.trace(name + ".started"), 20)
    victims = busy.workers[0].children()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    eventually_sync(lambda: len(busy.trace(name + ".started")) == 2, 30)
    busy.touch(name)
    assert busy.final(task_id)["result"] == "released"
    assert busy.trace(name + ".ended") == ["x"]


def test_a_killed_worker_loses_nothing(busy: Bench) -> None:
    """kill -9 of the parent: its children go with it, the broker gives the message to the next worker."""
    name = uuid4().hex
    task_id = busy.send("hold", name)
    eventually_sync(lambda: busy.trace(name + ".started"), 20)
    busy.workers[0].process.kill()
    worker = busy.start_worker("prefork", 2)
    eventually_sync(lambda: len(busy.trace(name + ".started")) == 2, 30)
    assert (worker.heartbeat() or {})["tasks"] == [task_id] or eventually_sync(
        lambda: (worker.heartbeat() or {}).get("tasks") == [task_id]
    )
    busy.touch(name)
    assert busy.final(task_id)["redelivered"] is True
    eventually_sync(busy.is_drained, 30)
