"""Above the bound of requests in hand, submissions are told to come again; reads and probes go on."""

from typing import Any

import pytest
from tests.unit.api.conftest import RunningApp

LIMIT = 3
TASK = {"queue": "jobs", "task": "tasks.add"}


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"max_open_requests": LIMIT}


@pytest.mark.parametrize(("path", "body"), [("/tasks", TASK), ("/tasks:batch", [TASK])])
async def test_a_submission_too_many_is_refused_and_the_next_one_is_not(
    running: RunningApp, path: str, body: object
) -> None:
    running.app.requests_in_hand = LIMIT
    answer = await running.client.post(f"/api/v1{path}", json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/overloaded")
    assert "x-content-type-options" in answer.headers
    assert (await running.client.get("/api/v1/queues")).status_code == 200

    running.app.requests_in_hand = LIMIT - 1
    assert (await running.client.post(f"/api/v1{path}", json=body)).status_code == 202
    assert running.app.requests_in_hand == LIMIT - 1


async def test_waits_and_streams_do_not_count(running: RunningApp) -> None:
    running.app.requests_in_hand = LIMIT
    async with running.app.state.services.streams.slot("wait"):
        assert (await running.client.post("/api/v1/tasks", json=TASK)).status_code == 202
