"""What a worker's user may do in the store is enough for all that the worker's scripts do there, on a real Valkey."""

import re
from collections.abc import Iterator

import pytest
import redis
from tests.support.brokers import Valkey
from tests.support.chart import CHART

from taskfleet_worker import _wire
from taskfleet_worker.scripts import BEGIN, CHANGE, NOTE, PROGRESS

PASSWORD = "of-the-worker"
TASK, EVENTS, RESULT = _wire.TASK_KEY_PREFIX + "t", _wire.EVENTS_STREAM, "celery-task-meta-t"
CHANNEL = _wire.UPDATES_CHANNEL_PREFIX + "t"


@pytest.fixture
def worker(valkey: Valkey) -> Iterator[redis.Redis]:
    """The store as a worker of the chart sees it."""
    text = (CHART / "templates" / "valkey" / "_valkey.tpl").read_text()
    (results,) = re.findall(r'\$results := "(.*)" -', text)
    (rights,) = re.findall(r'^worker: "(.*)"$', text, re.MULTILINE)
    words = rights.replace("{{ $results }}", results).split()
    assert valkey.command("ACL", "SETUSER", "worker", "reset", "on", f">{PASSWORD}", *words) == b"+OK"
    with redis.Redis.from_url(valkey.url, username="worker", password=PASSWORD, socket_timeout=5) as client:
        yield client
    valkey.command("ACL", "DELUSER", "worker")


def test_a_worker_may_look_up_who_serves_a_queue_and_not_change_it(worker: redis.Redis) -> None:
    assert worker.hmget(_wire.REGISTRY_KEY, "own", "other") == [None, None]
    with pytest.raises(redis.exceptions.NoPermissionError):
        worker.hset(_wire.REGISTRY_KEY, "own", "{}")


def test_every_script_of_the_worker_is_allowed(worker: redis.Redis) -> None:
    change = (CHANGE, 3, TASK, EVENTS, RESULT, 1000001, 0, "{}", CHANNEL, 60, 100, '"result"', 60)
    progress = (PROGRESS, 2, TASK, EVENTS, 1000001, "{", CHANNEL, 60, 100)
    begin = (BEGIN, 2, TASK, _wire.CANCELLED_KEY_PREFIX + "q", "t", 1000001, "", 60)
    note = (NOTE, 1, TASK, _wire.LIVE_LOSS, "{}", 60)
    for script, *parameters in (change, progress, begin, note):
        assert worker.eval(script.source, *parameters)


def test_what_is_of_others_is_refused(worker: redis.Redis) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        worker.hset(_wire.REGISTRY_KEY, "q", "{}")
    with pytest.raises(redis.exceptions.NoPermissionError):
        worker.set(_wire.FENCE_KEY_PREFIX + "pod", "1")


@pytest.mark.parametrize(
    "words",
    [
        ("SCAN", "0"),
        ("RANDOMKEY",),
        ("XRANGE", EVENTS, "-", "+"),
        ("XREAD", "STREAMS", EVENTS, "0"),
        ("PSUBSCRIBE", "taskfleet:*"),
        ("GET", _wire.worker_key("theirs", "host")),
        ("ZRANGE", _wire.WORKERS_INDEX_KEY, "0", "-1"),
        ("EVAL", "return redis.call('XRANGE', KEYS[1], '-', '+')", "1", EVENTS),
    ],
)
def test_ids_of_others_tasks_cannot_be_listed(worker: redis.Redis, words: tuple[str, ...]) -> None:
    """States and results are read by id alone."""
    with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission"):
        worker.execute_command(*words)


def test_heartbeats_and_catalogs_are_written_without_being_read(worker: redis.Redis) -> None:
    key = _wire.worker_key("mine", "host")
    worker.set(key, "{}", ex=5)
    worker.zadd(_wire.WORKERS_INDEX_KEY, {key: 1.0})
    worker.zremrangebyscore(_wire.WORKERS_INDEX_KEY, "-inf", 0)
    worker.zrem(_wire.WORKERS_INDEX_KEY, key)
    worker.delete(key)
    worker.hset(_wire.CATALOG_KEY_PREFIX + "mine", "task", "{}")
    worker.delete(_wire.CATALOG_KEY_PREFIX + "mine")
