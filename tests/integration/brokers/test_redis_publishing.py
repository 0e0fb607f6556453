"""What only Redis does to a publisher: kombu's four lists in reverse, refusals when full, and a real Celery worker."""

import json
import sys
from pathlib import Path

import pytest
from redis import Redis
from tests.integration.brokers.conftest import Broker, make_messages, publishing
from tests.support.processes import start_process
from tests.support.waiting import eventually

from taskfleet_api.brokers import FailureKind
from taskfleet_api.brokers.redis_publisher import build_envelope, build_list_key


@pytest.mark.parametrize(
    ("priority", "key"),
    [
        (9, "q"),
        (8, "q"),
        (6, "q\x06\x163"),
        (5, "q\x06\x163"),
        (2, "q\x06\x166"),
        (0, "q\x06\x169"),
        (None, "q\x06\x169"),
    ],
)
def test_the_first_priority_of_the_api_goes_to_the_first_list_of_kombu(priority: int | None, key: str) -> None:
    assert build_list_key("q", priority) == key


def test_the_envelope_has_exactly_the_fields_of_kombu() -> None:
    envelope = json.loads(build_envelope(make_messages("q", 1)[0]))
    assert sorted(envelope) == ["body", "content-encoding", "content-type", "headers", "properties"]
    assert sorted(envelope["properties"]) == [
        "body_encoding",
        "correlation_id",
        "delivery_info",
        "delivery_mode",
        "delivery_tag",
        "priority",
        "reply_to",
    ]


async def test_nine_is_served_first_and_none_last(redis_broker: Broker) -> None:
    queue = redis_broker.make_queue()
    messages = [message for priority in (None, 0, 5, 9) for message in make_messages(queue, 2, priority=priority)]
    async with publishing(redis_broker.url) as publisher:
        assert await publisher.wait_connected(10)
        assert await publisher.publish(messages) == [None] * 8
    found = [message.headers["id"] for message in redis_broker.read_all(queue)]
    ids = [message.task_id for message in messages]
    assert found == [*ids[6:8], *ids[4:6], *ids[0:2], *ids[2:4]]


async def test_a_server_out_of_memory_nacks(redis_broker: Broker) -> None:
    queue = redis_broker.make_queue()
    with Redis.from_url(redis_broker.url) as redis:
        async with publishing(redis_broker.url) as publisher:
            assert await publisher.wait_connected(10)
            try:
                redis.config_set("maxmemory", "1kb")
                outcomes = await publisher.publish(make_messages(queue, 3))
            finally:
                redis.config_set("maxmemory", "0")
            assert [outcome.kind if outcome else None for outcome in outcomes] == [FailureKind.NACKED] * 3
            assert publisher.connected


async def test_a_stock_celery_worker_runs_what_was_published(redis_broker: Broker, tmp_path: Path) -> None:
    queue = redis_broker.make_queue()
    (tmp_path / "stock_app.py").write_text(
        "from celery import Celery\n"
        f"app = Celery('stock', broker={redis_broker.url!r}, backend={redis_broker.url!r})\n"
        "app.conf.broker_connection_retry_on_startup = True\n"
        "@app.task(name='app.add')\n"
        "def add(*numbers):\n"
        "    return sum(numbers)\n"
    )
    command = [sys.executable, "-m", "celery", "-A", "stock_app", "worker", "-Q", queue, "-P", "solo"]
    worker = start_process(command, cwd=tmp_path, log=tmp_path / "worker.log")
    try:
        messages = make_messages(queue, 5)
        async with publishing(redis_broker.url) as publisher:
            assert await publisher.wait_connected(10)
            assert await publisher.publish(messages) == [None] * 5
        with Redis.from_url(redis_broker.url) as redis:

            def results() -> list[object]:
                found = [redis.get(f"celery-task-meta-{message.task_id}") for message in messages]
                return [json.loads(one)["result"] for one in found] if all(found) else []

            assert await eventually(results, timeout_seconds=30) == [0, 1, 2, 3, 4], worker.output()
    finally:
        worker.terminate()
