"""A worker whose app has a default queue that other workers serve, and whose tasks fork."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.integration.worker.harness import Bench
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.waiting import eventually_sync

from taskfleet_worker import _wire

SECONDS = 30


@pytest.fixture(scope="module", params=["rabbitmq", "valkey"])
def busy(request: pytest.FixtureRequest, rabbitmq43: RabbitMQ, valkey: Valkey, folder: Path) -> Iterator[Bench]:
    """A queue with a worker in threads, and another queue of its namespace that is the app's default."""
    place = folder / request.param
    place.mkdir()
    made = Bench(rabbitmq43 if request.param == "rabbitmq" else valkey, valkey, place, others=1)
    try:
        for name in (made.queue, *made.others):
            entry = {"queueName": name, "namespace": "shop", "broker": "default"}
            made.redis.hset(_wire.REGISTRY_KEY, name, json.dumps(entry))
        made.start_worker("threads", 2, env={"DEFAULT_QUEUE": made.others[0]})
        yield made
    finally:
        made.redis.hdel(_wire.REGISTRY_KEY, made.queue, *made.others)
        made.close()


def test_a_route_leads_to_its_queue_whatever_it_was_bound_to(busy: Bench) -> None:
    """The app's own exchange and routing key lead nowhere: its queues are Taskfleet's."""
    default = Bench.__new__(Bench)
    default.__dict__.update(busy.__dict__, queue=busy.others[0])
    before = default.depth()
    busy.final(busy.send("send_bound"))
    assert eventually_sync(lambda: default.depth() == before + 1, SECONDS)


def test_a_task_without_a_route_goes_to_the_apps_default_queue(busy: Bench) -> None:
    """As in Celery, whichever worker sends it; a retry goes back to where it came from."""
    default = Bench.__new__(Bench)
    default.__dict__.update(busy.__dict__, queue=busy.others[0])
    before = default.depth()
    busy.final(busy.send("send_on"))
    assert eventually_sync(lambda: default.depth() == before + 1, SECONDS)
    assert busy.final(busy.send("retry_in", uuid4().hex, 0.2))["retries"] == 1


def test_a_task_can_end_the_processes_that_it_forked(busy: Bench) -> None:
    """They would inherit the worker's answer to SIGTERM, which is to finish what it has."""
    assert busy.final(busy.send("fork_pool"))["result"] == [1]
