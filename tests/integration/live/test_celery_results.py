"""What the API ends itself is told to Celery's own clients too."""

import asyncio
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from tests.support.brokers import Valkey
from tests.support.events import build_state_event, new_id

from taskfleet_api.live import LiveStore
from taskfleet_core.states import TaskState


def wait_with_celery(url: str, task_id: str) -> Any:
    """The exception that a Celery client gets."""
    app = Celery(backend=url, set_as_current=False)
    try:
        return AsyncResult(task_id, app=app).get(timeout=10, propagate=False)
    finally:
        app.backend.result_consumer.stop()
        app.backend.client.close()
        app.close()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(TaskState.CANCELLED, TaskRevokedError, id="cancelled before a run"),
        pytest.param(TaskState.EXPIRED, TaskRevokedError, id="expired"),
        pytest.param(TaskState.DEAD, Exception, id="past the delivery limit"),
    ],
)
async def test_a_celery_client_hears_of_it(valkey: Valkey, state: TaskState, expected: type[Exception]) -> None:
    valkey.flush()
    live = LiveStore(valkey.url, timeout_seconds=2.0)
    await live.start()
    try:
        task_id = str(new_id())
        assert await live.announce(build_state_event(state, task_id))
        outcome = await asyncio.to_thread(wait_with_celery, valkey.url, task_id)
        assert isinstance(outcome, expected)
    finally:
        await live.close()
