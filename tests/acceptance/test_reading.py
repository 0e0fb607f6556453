"""Listing: filters, cursors that survive inserts, and the state of queues."""

import uuid
from typing import Any

import pytest
from tests.support.stack import Stack
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync

Json = dict[str, Any]


@pytest.fixture(scope="module")
def marker(api: TaskApi, jobs: str) -> str:
    """Metadata value of six finished tasks: five additions and one failure."""
    value = uuid.uuid4().hex
    for number in range(5):
        api.run(jobs, "jobs.add", number, 0, metadata={"run": value, "number": number})
    api.run(jobs, "jobs.fail", metadata={"run": value})
    return value


def list_tasks(api: TaskApi, **params: Any) -> Json:
    answer = api.request("GET", "/tasks", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param({}, 6, id="metadata alone"),
        pytest.param({"state": "failed"}, 1, id="state"),
        pytest.param({"state": ["failed", "succeeded"]}, 6, id="two states"),
        pytest.param({"task": "jobs.add"}, 5, id="task"),
        pytest.param({"queue": "jobs"}, 6, id="queue"),
        pytest.param({"created_after": "2999-01-01T00:00:00Z"}, 0, id="created after"),
        pytest.param({"created_before": "2999-01-01T00:00:00Z"}, 6, id="created before"),
    ],
)
def test_filters_narrow_the_list(api: TaskApi, marker: str, params: Json, expected: int) -> None:
    assert len(list_tasks(api, metadata=f"run={marker}", **params)["items"]) == expected


def test_two_metadata_filters_must_both_hold(api: TaskApi, marker: str) -> None:
    items = list_tasks(api, metadata=[f"run={marker}", "number=3"])["items"]

    assert [item["metadata"]["number"] for item in items] == [3]


def test_pages_are_newest_first_and_stable_while_tasks_are_inserted(api: TaskApi, jobs: str, marker: str) -> None:
    seen: list[Json] = []
    page = list_tasks(api, metadata=f"run={marker}", limit=2)
    while True:
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        api.submit(jobs, "jobs.add", 1, 1, metadata={"run": marker})
        page = list_tasks(api, metadata=f"run={marker}", limit=2, cursor=page["next_cursor"])

    ids = [item["id"] for item in seen]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == 6


def test_a_cursor_of_another_filter_is_refused(api: TaskApi, marker: str) -> None:
    cursor = list_tasks(api, metadata=f"run={marker}", limit=2)["next_cursor"]
    answer = api.request("GET", "/tasks", params={"task": "jobs.add", "cursor": cursor})

    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_unknown_id_is_404(api: TaskApi) -> None:
    assert api.request("GET", f"/tasks/{uuid.uuid4()}").status_code == 404


def test_a_queue_shows_depth_and_workers(api: TaskApi, stack: Stack, idle_queue: str) -> None:
    for _ in range(3):
        api.submit(idle_queue, "jobs.add", 1, 1)

    def probe() -> bool:
        queue = api.request("GET", f"/queues/{idle_queue}").json()
        return (queue["name"], queue["ready"], queue["workers"]) == (idle_queue, 3, 0)

    eventually_sync(probe, 15, interval_seconds=0.2)
    stack.start_worker(idle_queue)
    eventually_sync(lambda: api.request("GET", f"/queues/{idle_queue}").json()["workers"] == 1, 10)


def test_a_queue_lists_the_tasks_that_its_workers_announced(api: TaskApi, jobs: str) -> None:
    answer = api.request("GET", f"/queues/{jobs}/tasks")

    assert answer.status_code == 200
    tasks = {task["name"]: task for task in answer.json()["items"]}
    assert {"x", "y"} <= set(tasks["jobs.add"]["parameters"]["properties"])


def test_health_and_metrics_answer(api: TaskApi) -> None:
    assert api.http.get("/livez").status_code == 200
    ready = api.http.get("/readyz")
    assert ready.status_code == 200, ready.text
    assert "taskfleet_" in api.http.get("/metrics").text


def test_the_openapi_document_and_its_page_are_served(api: TaskApi) -> None:
    document = api.http.get("/openapi.json").json()

    assert document["openapi"].startswith("3.1")
    assert "/api/v1/tasks" in document["paths"]
    assert api.http.get("/docs").status_code == 200
