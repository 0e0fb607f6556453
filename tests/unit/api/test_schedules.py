"""Periodic tasks over HTTP."""

from typing import Any

import pytest
from tests.unit.api.conftest import RunningApp, on_shared

URL = "/api/v1/schedules"
DAILY: dict[str, Any] = {"queue": "jobs", "task": "jobs.report", "cron": "0 6 * * *", "time_zone": "Europe/Berlin"}


async def test_a_schedule_lives_from_put_to_delete(running: RunningApp) -> None:
    created = await running.client.put(f"{URL}/daily", json=DAILY | {"args": [1.50]})
    assert created.status_code == 201
    assert created.json()["next_at"] is not None
    replaced = await running.client.put(f"{URL}/daily", json=DAILY | {"enabled": False})
    assert replaced.status_code == 200
    assert (replaced.json()["enabled"], replaced.json()["next_at"]) == (False, None)
    assert replaced.json()["created_at"] == created.json()["created_at"]
    assert (await running.client.get(f"{URL}/daily")).json() == replaced.json()
    assert (await running.client.delete(f"{URL}/daily")).status_code == 204
    assert (await running.client.get(f"{URL}/daily")).status_code == 404
    assert (await running.client.delete(f"{URL}/daily")).status_code == 404


async def test_an_id_is_created_only_once(running: RunningApp) -> None:
    first = await running.client.post(URL, json=DAILY | {"id": "daily"})
    assert first.status_code == 201
    assert first.headers["location"] == f"{URL}/daily"
    assert (await running.client.post(URL, json=DAILY | {"id": "daily"})).status_code == 409
    unnamed = await running.client.post(URL, json=DAILY)
    assert unnamed.status_code == 201


async def test_schedules_are_listed_in_pages(running: RunningApp) -> None:
    for name in ("a", "b", "c"):
        await running.client.put(f"{URL}/{name}", json=DAILY)
    first = (await running.client.get(URL, params={"limit": 2})).json()
    assert ([item["id"] for item in first["items"]], first["next_after"]) == (["a", "b"], "b")
    rest = (await running.client.get(URL, params={"after": first["next_after"]})).json()
    assert ([item["id"] for item in rest["items"]], rest["next_after"]) == (["c"], None)


async def test_an_interval_counts_on_when_its_schedule_is_replaced(running: RunningApp) -> None:
    every = {"queue": "jobs", "task": "jobs.report", "interval_seconds": 86_400}
    first = (await running.client.put(f"{URL}/every", json=every)).json()
    again = (await running.client.put(f"{URL}/every", json=every | {"args": [1]})).json()
    assert first["next_at"] == again["next_at"]


@on_shared
@pytest.mark.parametrize(
    ("members", "status", "pointer"),
    [
        ({"cron": "61 * * * *"}, 422, "#/cron"),
        ({"cron": "0 0 30 2 *"}, 422, "#/cron"),
        ({"time_zone": "Mars/Olympus"}, 422, "#/time_zone"),
        ({"time_zone": "../etc/passwd"}, 422, "#/time_zone"),
        ({"interval_seconds": 5}, 422, "#"),
        ({"cron": None}, 422, "#"),
        ({"cron": None, "interval_seconds": 0.1}, 422, "#/interval_seconds"),
        ({"catch_up": "some"}, 422, "#/catch_up"),
        ({"eta": "2030-01-01T00:00:00Z"}, 422, "#/eta"),
        ({"queue": "nowhere"}, 404, None),
        ({"timeout_seconds": 61}, 422, "#/timeout_seconds"),
    ],
)
async def test_what_cannot_run_is_refused(
    shared: RunningApp, members: dict[str, Any], status: int, pointer: str | None
) -> None:
    answer = await shared.client.put(f"{URL}/daily", json=DAILY | members)
    assert answer.status_code == status, answer.text
    if pointer:
        assert answer.json()["errors"][0]["pointer"] == pointer
