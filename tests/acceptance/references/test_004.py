"""Reference 004: tasks with title, description and metadata; its statuses, timestamps and error codes."""

import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.support.site import Site
from tests.support.waiting import eventually_sync

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
SAMPLE = {"title": "Sample Task", "description": "Process something", "metadata": {"priority": "high"}}


@pytest.fixture(autouse=True)
def queue(request: pytest.FixtureRequest) -> None:
    """A worker on the main site; the tests on the other stacks do without it."""
    if "other_site" not in request.fixturenames:
        request.getfixturevalue("site").serve("004-async-task-queue")


def create(site: Site, **fields: Any) -> str:
    answer = site.http.post("/api/tasks", json=SAMPLE | fields)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body == {"task_id": body["task_id"], "message": "Task submitted successfully"}
    return str(UUID(body["task_id"]))


def read(site: Site, task_id: str) -> dict[str, Any]:
    answer = site.http.get(f"/api/tasks/{task_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def wait_for(site: Site, task_id: str, status: str) -> dict[str, Any]:
    found = eventually_sync(lambda: (t := read(site, task_id))["status"] == status and t, 20)
    assert isinstance(found, dict)
    return found


def test_a_task_goes_from_pending_over_processing_to_completed(site: Site) -> None:
    task_id = create(site)
    pending = read(site, task_id)
    assert pending["status"] in ("PENDING", "PROCESSING")
    assert pending["completed_at"] is None
    wait_for(site, task_id, "PROCESSING")

    done = wait_for(site, task_id, "COMPLETED")
    assert done == SAMPLE | {
        "task_id": task_id,
        "status": "COMPLETED",
        "created_at": pending["created_at"],
        "updated_at": done["updated_at"],
        "completed_at": done["completed_at"],
    }
    assert all(TIME.fullmatch(done[name]) for name in ("created_at", "updated_at", "completed_at"))
    assert done["created_at"] < done["completed_at"] <= done["updated_at"]


def test_a_task_without_metadata_is_fine_and_one_that_fails_is_failed(site: Site) -> None:
    plain, failing = create(site, metadata=None), create(site, metadata={"fail": True, "seconds": 0.1})
    failed = wait_for(site, failing, "FAILED")
    assert failed["completed_at"] is None
    assert wait_for(site, plain, "COMPLETED")["metadata"] is None


def test_the_table_follows_the_worker_without_any_read(site: Site) -> None:
    task_id = create(site, metadata={"seconds": 0.1})
    query = f"SELECT status, completed_at FROM reference_004_tasks WHERE id = '{task_id}'"
    rows = eventually_sync(lambda: (r := site.fetch_rows(query))[0]["status"] == "COMPLETED" and r, 20)
    assert isinstance(rows, list)
    assert rows[0]["completed_at"] is not None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{}", id="empty"),
        pytest.param(b'{"title": "", "description": "x"}', id="empty title"),
        pytest.param(b'{"title": "x", "description": 5}', id="wrong type"),
        pytest.param(b'{"title": "x", "description": "y", "metadata": []}', id="metadata is a list"),
        pytest.param(b'{"title": "nul \\u0000", "description": "y"}', id="NUL"),
        pytest.param(b'{"title": "x", "description": "y", "metadata": {"a": NaN}}', id="NaN"),
        pytest.param(b'{"title": "x", "description": "\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"title": ', id="broken JSON"),
        pytest.param(b"[" * 10_000, id="deep JSON"),
    ],
)
def test_an_invalid_request_is_400_in_the_standard_shape(site: Site, content: bytes) -> None:
    answer = site.http.post("/api/tasks", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize("task_id", ["uuid", "1", "%00", "x" * 36])
def test_a_task_that_does_not_exist_is_404_in_the_standard_shape(site: Site, task_id: str) -> None:
    for missing in (task_id, str(uuid4())):
        answer = site.http.get(f"/api/tasks/{missing}")
        assert answer.status_code == 404
        assert answer.json()["error"] == {"code": "TASK_NOT_FOUND", "message": "Task not found", "details": []}


def test_a_database_that_is_down_is_500_in_the_standard_shape_and_nothing_more(site: Site) -> None:
    site.stack.database.kill()
    try:
        answer = site.http.post("/api/tasks", json=SAMPLE)
    finally:
        site.stack.database.restart()
    assert answer.status_code == 500
    assert answer.json() == {"error": {"code": "INTERNAL_ERROR", "message": "Internal server error", "details": []}}
    task_id = eventually_sync(lambda: site.http.post("/api/tasks", json=SAMPLE).json().get("task_id"), 30)
    wait_for(site, str(task_id), "COMPLETED")


@pytest.mark.smoke
def test_a_task_is_completed_on_the_other_stacks(other_site: Site) -> None:
    other_site.serve("004-async-task-queue")
    task_id = create(other_site, metadata={"seconds": 0.1})
    done = wait_for(other_site, task_id, "COMPLETED")
    assert done["metadata"] == {"seconds": 0.1}
    assert TIME.fullmatch(done["completed_at"])
