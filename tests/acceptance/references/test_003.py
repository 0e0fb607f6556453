"""Reference 003: rows with integer ids whose status follows the worker; the table shows it."""

from typing import Any

import pytest
from tests.support.site import Site
from tests.support.waiting import eventually_sync


@pytest.fixture(autouse=True)
def queue(request: pytest.FixtureRequest) -> None:
    """A worker on the main site; the tests on the other stacks do without it."""
    if "other_site" not in request.fixturenames:
        request.getfixturevalue("site").serve("003-crud")


def create(site: Site, name: str) -> dict[str, Any]:
    answer = site.http.post("/tasks/", json={"name": name})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def read(site: Site, row_id: int) -> dict[str, Any]:
    answer = site.http.get(f"/tasks/{row_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_task_is_created_and_completed(site: Site) -> None:
    row = create(site, "Process Data")
    assert isinstance(row["id"], int)
    assert (row["name"], row["status"]) == ("Process Data", "pending")
    done = eventually_sync(lambda: (r := read(site, row["id"]))["status"] == "completed" and r, 20)
    assert isinstance(done, dict)
    assert done["result"] == "Process Data processed"


def test_a_failure_is_a_status_with_its_reason(site: Site) -> None:
    row = create(site, "fail please")
    failed = eventually_sync(lambda: (r := read(site, row["id"]))["status"] == "failed" and r, 20)
    assert isinstance(failed, dict)
    assert failed["result"] == f"task {row['id']} was asked to fail"


def test_the_table_follows_the_worker_without_any_read(site: Site) -> None:
    row_id = create(site, "for the table")["id"]
    query = f"SELECT name, status, result FROM reference_003_tasks WHERE id = {row_id}"
    wanted = [{"name": "for the table", "status": "COMPLETED", "result": "for the table processed"}]
    eventually_sync(lambda: site.fetch_rows(query) == wanted, 20, interval_seconds=0.2)


def test_rows_are_listed_updated_and_deleted(site: Site) -> None:
    ids = [create(site, f"row {n}")["id"] for n in range(3)]
    listed = site.http.get("/tasks/", params={"limit": 1000}).json()
    assert [row["id"] for row in listed if row["id"] in ids] == ids
    assert len(site.http.get("/tasks/", params={"skip": 1, "limit": 1}).json()) == 1

    assert site.http.put(f"/tasks/{ids[0]}", json={"name": "renamed"}).json()["name"] == "renamed"
    assert read(site, ids[0])["name"] == "renamed"

    assert site.http.delete(f"/tasks/{ids[1]}").status_code == 200
    for method in ("GET", "DELETE"):
        answer = site.http.request(method, f"/tasks/{ids[1]}")
        assert (answer.status_code, answer.json()) == (404, {"detail": "Task not found"})
    assert site.http.put(f"/tasks/{ids[1]}", json={"name": "x"}).status_code == 404


@pytest.mark.parametrize("path", ["/tasks/0", "/tasks/-1", "/tasks/abc", f"/tasks/{2**70}"])
def test_what_is_no_id_is_refused(site: Site, path: str) -> None:
    assert site.http.get(path).status_code == 422


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x" * 256}, {"name": 5}, {"name": "nul \x00"}])
def test_wrong_input_is_refused(site: Site, body: dict[str, object]) -> None:
    assert site.http.post("/tasks/", json=body).status_code == 422


def test_the_payload_of_002_and_the_rows_of_003_live_side_by_side(site: Site) -> None:
    site.serve("002-submit")
    assert site.http.post("/tasks/submit", json={"data": "x"}).json()["status"] == "submitted"
    assert create(site, "beside")["status"] == "pending"


@pytest.mark.smoke
def test_a_row_is_completed_on_the_other_stacks(other_site: Site) -> None:
    other_site.serve("003-crud")
    row_id = create(other_site, "Process Data")["id"]
    query = f"SELECT status FROM reference_003_tasks WHERE id = {row_id}"
    eventually_sync(lambda: other_site.fetch_rows(query) == [{"status": "COMPLETED"}], 20, interval_seconds=0.2)
    assert read(other_site, row_id)["status"] == "completed"
