"""Reading and steering on the database alone."""

import uuid
from typing import Any

import pytest
from tests.unit.api.conftest import RunningApp, on_shared

URL = "/api/v1/tasks"
TASK: dict[str, Any] = {"queue": "jobs", "task": "jobs.add"}
NOBODY = uuid.UUID(int=7)


async def submit(running: RunningApp, **members: Any) -> str:
    answer = await running.client.post(URL, json=TASK | members)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def test_pages_are_stable_while_tasks_arrive(running: RunningApp) -> None:
    ids = [await submit(running) for _ in range(5)]
    first = (await running.client.get(URL, params={"limit": 2})).json()
    await submit(running)
    second = (await running.client.get(URL, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    third = (await running.client.get(URL, params={"limit": 2, "cursor": second["next_cursor"]})).json()
    seen = [item["id"] for page in (first, second, third) for item in page["items"]]
    assert seen == ids[::-1]
    assert third["next_cursor"] is None


async def test_filters_work_together(running: RunningApp) -> None:
    await running.add_queue("other")
    wanted = await submit(running, metadata={"customer": "a=b", "n": 1}, countdown_seconds=1000)
    await submit(running, metadata={"customer": "a=b", "n": 2})
    await submit(running, queue="other", metadata={"customer": "a=b", "n": 1})
    params = [
        ("queue", "jobs"),
        ("state", "scheduled"),
        ("state", "failed"),
        ("task", "jobs.add"),
        ("metadata", "customer=a=b"),
        ("metadata", "n=1"),
        ("created_after", "2020-01-01T00:00:00+02:00"),
        ("created_before", "2999-01-01T00:00:00Z"),
    ]
    found = (await running.client.get(URL, params=params)).json()["items"]
    assert [item["id"] for item in found] == [wanted]


@on_shared
@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"cursor": "x"}, 404),
        ({"limit": "0"}, 422),
        ({"limit": "501"}, 422),
        ({"limit": "9" * 5000}, 422),
        ({"state": "gone"}, 422),
        ({"metadata": "x"}, 422),
        ({"created_after": "yesterday"}, 422),
        ({"created_after": "0001-01-01T00:00:00+10:00"}, 422),
        ({"queue": "a\x00b"}, 422),
        ({"task": "a\x00b"}, 422),
        ({"queue": "nowhere"}, 200),
    ],
)
async def test_odd_filters_never_fail_inside(shared: RunningApp, params: dict[str, str], status: int) -> None:
    answer = await shared.client.get(URL, params=params)
    assert answer.status_code == status, answer.text
    if status == 422:
        assert answer.json()["errors"][0]["pointer"].startswith(f"#/query/{next(iter(params))}")


async def test_a_cursor_belongs_to_its_filter(running: RunningApp) -> None:
    for _ in range(3):
        await submit(running)
    cursor = (await running.client.get(URL, params={"limit": 1})).json()["next_cursor"]
    assert (await running.client.get(URL, params={"cursor": cursor, "queue": "jobs"})).status_code == 404


@on_shared
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{URL}/{NOBODY}"),
        ("DELETE", f"{URL}/{NOBODY}"),
        ("POST", f"{URL}/{NOBODY}:retry"),
        ("GET", f"{URL}/{NOBODY}/events"),
        ("GET", f"{URL}/not-an-id"),
        ("GET", "/api/v2"),
        ("GET", "/api/v1/queues/x"),
        ("POST", "/api/v1/queues/x/dead:redrive"),
        ("POST", "/api/v1/queues/x/dead:purge"),
        ("GET", "/api/v1/schedules/x"),
    ],
)
async def test_what_is_not_there_is_a_404_problem(shared: RunningApp, method: str, path: str) -> None:
    answer = await shared.client.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert ("UUIDs" in answer.json()["detail"]) is ("not-an-id" in path), "the id that a Celery producer chose"


@on_shared
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", URL, "GET, POST"),
        ("GET", f"{URL}:batch", "POST"),
        ("POST", f"{URL}/{NOBODY}", "DELETE, GET"),
        ("GET", f"{URL}/{NOBODY}:retry", "POST"),
        ("DELETE", "/livez", "GET"),
        ("PATCH", "/api/v1/schedules/x", "DELETE, GET, PUT"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(shared: RunningApp, method: str, path: str, allowed: str) -> None:
    answer = await shared.client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_unpublished_task_is_cancelled_and_can_be_retried(running: RunningApp) -> None:
    task_id = await submit(running, countdown_seconds=1000)
    cancelled = await running.client.delete(f"{URL}/{task_id}")
    assert cancelled.status_code == 200
    assert cancelled.json()["state"] == "cancelled"
    assert (await running.client.delete(f"{URL}/{task_id}")).status_code == 409
    retried = await running.client.post(f"{URL}/{task_id}:retry")
    assert retried.status_code == 202
    assert (retried.json()["state"], retried.json()["attempt"]) == ("pending", 2)
    assert [attempt["state"] for attempt in retried.json()["attempts"]] == ["cancelled", "pending"]
    assert (await running.client.post(f"{URL}/{task_id}:retry")).status_code == 409


async def test_the_stream_of_a_finished_task_tells_and_ends(running: RunningApp) -> None:
    task_id = await submit(running, countdown_seconds=1000)
    await running.client.delete(f"{URL}/{task_id}")
    answer = await running.client.get(f"{URL}/{task_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "event: state\nid: 1-1999999-0\n" in answer.text
    again = await running.client.get(f"{URL}/{task_id}/events", headers={"Last-Event-ID": "1-1999999-0"})
    assert "event:" not in again.text


async def test_readiness_names_what_is_down(running: RunningApp) -> None:
    answer = await running.client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    checks = answer.json()["checks"]
    assert (checks["database"]["up"], checks["store"]["up"], checks["broker"]["up"]) == (True, False, False)
    assert (await running.client.get("/livez")).json() == {"status": "alive"}


async def test_metrics_have_no_sample_for_what_is_unknown(running: RunningApp) -> None:
    await submit(running)
    text = (await running.client.get("/metrics")).text
    assert 'taskfleet_api_submissions_total{outcome="accepted",queue="jobs"}' in text
    assert 'taskfleet_api_dependency_up{dependency="store"} 0.0' in text
    assert "taskfleet_queue_ready{" not in text


async def test_queues_are_listed_with_unknown_figures_as_null(running: RunningApp) -> None:
    items = (await running.client.get("/api/v1/queues")).json()["items"]
    assert [item["name"] for item in items] == ["jobs"]
    assert items[0]["ready"] is None
    assert (await running.client.get("/api/v1/queues/jobs")).json() == items[0]
    assert (await running.client.get("/api/v1/queues/jobs/tasks")).json() == {"items": []}
    assert (await running.client.post("/api/v1/queues/jobs/dead:redrive")).json() == {"redriven": 0, "more": False}
    assert (await running.client.post("/api/v1/queues/jobs/dead:purge")).json() == {"purged": 0}


@pytest.mark.parametrize("overrides", [{"cors_origins": ("https://console.example",)}])
async def test_browsers_of_named_origins_may_call(running: RunningApp) -> None:
    headers = {"Origin": "https://console.example"}
    answer = await running.client.post(URL, json=TASK, headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://console.example"
    preflight = await running.client.options(URL, headers=headers | {"Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 200
    other = await running.client.post(URL, json=TASK, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("overrides", [{"root_path": "/taskfleet"}])
async def test_behind_a_path_prefix_locations_name_it(running: RunningApp) -> None:
    for path in (URL, f"/taskfleet{URL}"):
        answer = await running.client.post(path, json=TASK)
        assert answer.headers["location"].startswith("/taskfleet/api/v1/tasks/")
        assert (await running.client.get(answer.headers["location"])).status_code == 200
    assert (await running.client.get("/openapi.json")).json()["servers"] == [{"url": "/taskfleet"}]


async def test_reasons_of_scaling_need_the_store_and_a_known_queue(running: RunningApp) -> None:
    assert (await running.client.get("/api/v1/queues/nobody/scaling")).status_code == 404
    answer = await running.client.get("/api/v1/queues/jobs/scaling")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
