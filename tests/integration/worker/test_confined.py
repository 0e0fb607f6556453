"""A real worker with a broker user of its queue's own does all that Celery does within its queue, and no more."""

import asyncio
from collections.abc import Iterator

import pytest
from celery import chain, chord
from kombu import Connection
from tests.integration.worker.harness import Bench
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.waiting import eventually_sync

from taskfleet_core.addresses import parse_amqp_url, replace_login
from taskfleet_core.topology import QueueUser, QueueUsers

pytestmark = pytest.mark.timeout(120, func_only=True)
SECONDS = 40


def confine(bench: Bench) -> tuple[str, str]:
    """Make the user of the bench's queue, which may send to its first other one; its URL and what workers are told."""
    broker = bench.broker
    assert isinstance(broker, RabbitMQ)
    (address,) = parse_amqp_url(broker.url)

    async def make() -> bool:
        users = QueueUsers(broker.management_url, address)
        mine = QueueUser(f"taskfleet.test.{bench.queue}", "secret", (bench.queue,), (bench.others[0],))
        third = QueueUser(f"taskfleet.test.{bench.others[0]}", "secret", (bench.others[0],))
        try:
            await users.ensure([mine, third], "taskfleet-test")
        finally:
            await users.close()
        return bool(users.delays)

    delays = asyncio.run(make())
    url = replace_login(broker.url, f"taskfleet.test.{bench.queue}", "secret")
    return url, "delays" if delays else "waits"


@pytest.fixture(scope="module", params=["rabbitmq43", "rabbitmq310"])
def confined(
    request: pytest.FixtureRequest, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    broker: RabbitMQ = request.getfixturevalue(request.param)
    made = Bench(broker, valkey, tmp_path_factory.mktemp(request.param), others=2)
    try:
        url, told = confine(made)
        names = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
        made.start_worker("prefork", 2, env={**dict.fromkeys(names, url), "TASKFLEET_CONFINED": told})
        yield made
    finally:
        made.close()


def test_tasks_chains_and_chords_run_in_the_own_queue(confined: Bench) -> None:
    def call(name: str, *args: object) -> object:
        return confined.app.signature(f"everything.{name}", args)

    assert confined.final(confined.send("add", 2, 3))["state"] == "succeeded"
    assert chain(call("add", 1, 2), call("add", 10)).apply_async().get(timeout=SECONDS) == 13
    assert chord([call("add", n, 1) for n in range(4)], call("total")).apply_async().get(timeout=SECONDS) == 10


def test_retries_with_and_without_a_delay_come_back(confined: Bench) -> None:
    """Twice: the second retry is one of a message that came out of the delays."""
    assert confined.final(confined.send("retry_in", "twice", 1, 2), SECONDS)["state"] == "succeeded"
    assert confined.trace("twice") == ["run"] * 3
    assert confined.final(confined.send("retry_in", "at-once", 0, 2), SECONDS)["state"] == "succeeded"
    log = confined.workers[0].log()
    assert "ACCESS_REFUSED" not in log
    assert "Direct exchanges are not supported" not in log


def test_a_task_sends_to_the_queue_that_it_may_send_to(confined: Bench) -> None:
    allowed, _ = confined.others
    assert confined.final(confined.send("pass_on", allowed))["state"] == "succeeded"
    eventually_sync(lambda: confined.ready(allowed) == 1, SECONDS, interval_seconds=0.5)


def test_a_task_that_sends_elsewhere_fails_and_says_why(confined: Bench) -> None:
    _, foreign = confined.others
    event = confined.final(confined.send("pass_on", foreign))
    assert event["state"] == "failed"
    assert "ACCESS_REFUSED" in str(event["error"])
    with Connection(confined.broker.url) as connection, connection.channel() as channel:
        assert channel.queue_declare(foreign, passive=True).message_count == 0
    assert confined.final(confined.send("add", 1, 1))["state"] == "succeeded", "the worker goes on"


def test_nothing_of_all_that_costs_it_its_connection(confined: Bench) -> None:
    (worker,) = confined.workers
    assert worker.process.is_running
    assert "Connection to broker lost" not in worker.log()
