"""Content is JSON: a pickle is refused wherever one can be planted, and nothing in it is executed."""

import asyncio
import contextlib
import os
import pickle
import uuid
from collections.abc import Callable
from pathlib import Path

import aio_pika
import pytest
from tests.support.hardened import HardenedStack
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync

from taskfleet_core import wire

pytestmark = pytest.mark.timeout(90, func_only=True)
PICKLE = "application/x-python-serialize"


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self._path),)


@pytest.fixture
def crater(tmp_path: Path) -> Path:
    """What is there only once a bomb has gone off; that it does is tried first."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()
    return tmp_path / "crater"


@pytest.fixture(scope="module")
def api(hardened: HardenedStack) -> TaskApi:
    return TaskApi(hardened.client())


def plant(hardened: HardenedStack, queue: str, body: bytes, content_type: str) -> str:
    """A message as a Celery producer would write it, from somebody who may publish; its task id."""
    task_id = str(uuid.uuid4())
    headers = {"id": task_id, "task": "jobs.add", "lang": "py", "argsrepr": "()", "kwargsrepr": "{}"}

    async def publish() -> None:
        async with await aio_pika.connect(hardened.broker.url, timeout=10) as connection:
            encoding = "binary" if content_type == PICKLE else "utf-8"
            message = aio_pika.Message(
                body,
                headers=dict(headers),
                content_type=content_type,
                content_encoding=encoding,
                correlation_id=task_id,
            )
            exchange = (await connection.channel()).default_exchange
            await exchange.publish(message, routing_key=queue, timeout=10)

    asyncio.run(publish())
    return task_id


@pytest.mark.parametrize("content_type", [PICKLE, "application/json"])
def test_a_worker_does_not_unpickle_a_message(
    hardened: HardenedStack, api: TaskApi, crater: Path, content_type: str
) -> None:
    task_id = plant(hardened, "jobs", pickle.dumps(((Bomb(crater),), {}, {})), content_type)
    assert api.wait(task_id, timeout_seconds=30)["state"] == "failed"
    assert api.run("jobs", "jobs.add", 2, 2)["result"] == 4
    assert not crater.exists()


def test_the_api_does_not_unpickle_a_dead_letter(hardened: HardenedStack, api: TaskApi, crater: Path) -> None:
    task_id = plant(hardened, wire.dead_queue("jobs"), pickle.dumps(((Bomb(crater),), {}, {})), PICKLE)
    record = api.wait(task_id, timeout_seconds=30)
    assert record["state"] in ("failed", "dead")
    assert not crater.exists()


def test_the_recorder_passes_over_an_event_that_is_no_json(hardened: HardenedStack, api: TaskApi, crater: Path) -> None:
    with contextlib.closing(hardened.valkey.connect("worker")) as client:
        client.xadd(wire.EVENTS_STREAM, {wire.EVENT_FIELD: pickle.dumps(Bomb(crater))})
    assert api.run("jobs", "jobs.add", 3, 3)["result"] == 6
    with contextlib.closing(hardened.valkey.connect("api")) as client:
        eventually_sync(lambda: client.xpending(wire.EVENTS_STREAM, wire.RECORDER_GROUP)["pending"] == 0, 20)
    assert not crater.exists()


def test_a_result_that_is_no_json_is_not_unpickled(hardened: HardenedStack, api: TaskApi, crater: Path) -> None:
    task = api.submit("jobs", "jobs.sleep", 1)
    with contextlib.closing(hardened.valkey.connect("worker")) as client:
        client.hset(wire.task_key(task["id"]), wire.LIVE_EVENT, pickle.dumps(Bomb(crater)))
    assert api.wait(task["id"])["state"] == "succeeded"
    assert not crater.exists()
