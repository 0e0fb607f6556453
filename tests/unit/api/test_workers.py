"""Workers and decisions of queues, and one stream for several tasks: what is said while the store is away."""

from uuid import UUID

import pytest
from tests.unit.api.conftest import RunningApp, on_shared

from taskfleet_api.queues.service import build_worker
from taskfleet_core.events import Heartbeat

BEAT: Heartbeat = {
    "schema": 1,
    "queue": "jobs",
    "host": "jobs-1",
    "pid": 7,
    "pool": "prefork",
    "slots": 4,
    "busy": 1,
    "tasks": ["01920000-0000-7000-8000-000000000000"],
    "consuming": True,
    "started_at": 1_700_000_000.0,
    "at": 1_700_000_009.0,
    "completed": 12,
    "failed": 2,
    "runtime_seconds_sum": 3.0,
    "celery": "5.5.3",
    "python": "3.13.1",
}


def test_a_worker_is_shown_by_its_heartbeat() -> None:
    shown = build_worker(BEAT)
    assert (shown["name"], shown["busy"], shown["slots"], shown["consuming"]) == ("jobs-1", 1, 4, True)
    assert shown["started_at"] == "2023-11-14T22:13:20+00:00"


def test_a_worker_of_another_release_may_say_less() -> None:
    shown = build_worker({"host": "old", "queue": "jobs"})  # type: ignore[typeddict-item]
    assert (shown["name"], shown["slots"], shown["started_at"], shown["consuming"]) == ("old", 0, None, False)


async def test_unknown_workers_and_decisions_are_null_and_not_empty(running: RunningApp) -> None:
    assert (await running.client.get("/api/v1/queues/jobs/workers")).json() == {"items": None}
    (queue,) = (await running.client.get("/api/v1/queues")).json()["items"]
    assert (queue["decision"], queue["workers"]) == (None, None)
    assert (await running.client.get("/api/v1/queues/nobody/workers")).status_code == 404


@on_shared
@pytest.mark.parametrize("ids", [[], ["no-id"], [str(UUID(int=number)) for number in range(101)]])
async def test_a_stream_of_several_tasks_is_bounded(shared: RunningApp, ids: list[str]) -> None:
    answer = await shared.client.get("/api/v1/tasks:events", params={"id": ids})
    assert answer.status_code == 422


@on_shared
async def test_a_stream_of_tasks_that_do_not_exist_is_refused(shared: RunningApp) -> None:
    answer = await shared.client.get("/api/v1/tasks:events", params={"id": str(UUID(int=1))})
    assert answer.status_code == 404
