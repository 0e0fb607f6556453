"""The history of queues over HTTP: what is stored, what is not rolled up yet, and bounds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.api.conftest import RunningApp, on_shared

from taskfleet_api.records import QueueSample, Records
from taskfleet_api.records.sampling import floor_to

JOBS = "/api/v1/queues/jobs/history"
MANY = "/api/v1/queues:history"
MINUTE = timedelta(minutes=1)
STEP = timedelta(seconds=10)


async def save(running: RunningApp, step_seconds: int, at: datetime, **fields: Any) -> None:
    records: Records = running.app.state.services.records
    samples = [QueueSample(queue="jobs", at=at, **{"waits": {}, **fields})] if fields else []
    assert await records.save_interval(step_seconds, at, samples)


async def test_unseen_intervals_are_absent_and_quiet_ones_are_zero(running: RunningApp) -> None:
    first = floor_to(datetime.now(UTC), 60) - 5 * MINUTE
    await save(running, 10, first, ready=4, desired=1, finished=2, failed=1, waits={20: 1})
    await save(running, 10, first + STEP)
    await save(running, 10, first + 3 * STEP, ready=None, desired=2, reason="two slots busy")
    answer = (
        await running.client.get(JOBS, params={"since": first.isoformat(), "until": (first + MINUTE).isoformat()})
    ).json()
    assert answer["step_seconds"] == 10
    assert [(point["ready"], point["finished"]) for point in answer["points"]] == [(4, 2), (0, 0), (None, None)]
    assert answer["points"][0]["wait_p95_seconds"] == pytest.approx(0.77, rel=0.13)
    changes = [(change["before"], change["replicas"], change["reason"]) for change in answer["decisions"]]
    assert changes == [(1, 0, None), (0, 2, "two slots busy")]


async def test_what_is_not_rolled_up_yet_is_made_of_shorter_intervals(running: RunningApp) -> None:
    """Ten minutes that are stored, then minutes, then seconds: no hole."""
    begin = floor_to(datetime.now(UTC), 600) - 240 * MINUTE  # the API itself rolls up nothing so old
    await save(running, 600, begin, ready=1, finished=100)
    await save(running, 60, begin + 10 * MINUTE, ready=5, finished=10)
    await save(running, 10, begin + 11 * MINUTE, ready=9, finished=1)
    until = begin + 20 * MINUTE
    params = {"since": begin.isoformat(), "until": until.isoformat(), "step_seconds": 600}
    points = (await running.client.get(JOBS, params=params)).json()["points"]
    assert [(point["ready"], point["finished"]) for point in points] == [(1, 100), (9, 11)]


async def test_several_queues_come_in_columns(running: RunningApp) -> None:
    await running.add_queue("other")
    first = floor_to(datetime.now(UTC), 60) - 5 * MINUTE  # the API itself writes of now
    await save(running, 10, first, ready=4, finished=2)
    await save(running, 10, first + STEP)
    params = {"queue": ["other", "jobs", "nobody", "jobs"], "until": (first + MINUTE).isoformat()}
    answer = (await running.client.get(MANY, params=params)).json()
    assert len(answer["at"]) == 2
    assert answer["items"] == [
        {"queue": "other", "ready": [0, 0], "finished": [0, 0]},
        {"queue": "jobs", "ready": [4, 0], "finished": [2, 0]},
    ]


@pytest.mark.parametrize(("url", "more"), [(JOBS, {}), (MANY, {"queue": "jobs"})])
async def test_an_answer_is_sent_again_only_when_it_changed(
    running: RunningApp, url: str, more: dict[str, str]
) -> None:
    span = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:10:00Z", **more}
    first = await running.client.get(url, params=span)
    assert first.headers["cache-control"] == "private, max-age=5"
    again = await running.client.get(url, params=span, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await save(running, 600, datetime(2026, 1, 1, tzinfo=UTC), ready=3)
    changed = await running.client.get(url, params=span, headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200


@on_shared
@pytest.mark.parametrize(
    "params",
    [
        {"step_seconds": "11"},
        {"step_seconds": "ten"},
        {"since": "yesterday"},
    ],
)
async def test_odd_spans_are_refused(shared: RunningApp, params: dict[str, str]) -> None:
    for url, more in ((JOBS, {}), (MANY, {"queue": "jobs"})):
        answer = await shared.client.get(url, params=params | more)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"].startswith("#/query/")


@pytest.mark.parametrize(
    "params",
    [
        {"since": "9999-12-31T23:59:59Z"},
        {"until": "0001-01-01T00:00:00Z"},
        {"since": "0001-01-01T00:00:00Z"},
        {"since": "0001-01-01T00:00:00Z", "until": "0001-01-01T00:00:01Z", "step_seconds": "60"},
    ],
)
async def test_times_of_which_nothing_is_kept_are_empty(running: RunningApp, params: dict[str, str]) -> None:
    one = await running.client.get(JOBS, params=params)
    many = await running.client.get(MANY, params={"queue": "jobs", **params})
    assert (one.status_code, many.status_code) == (200, 200)
    assert max(len(one.json()["points"]), len(many.json()["at"])) <= 1  # the API itself may have looked by now


async def test_only_queues_that_exist_have_a_history_and_many_are_bounded(running: RunningApp) -> None:
    assert (await running.client.get("/api/v1/queues/nobody/history")).status_code == 404
    assert (await running.client.get(MANY)).status_code == 422
    assert (await running.client.get(MANY, params={"queue": ["jobs"] * 101})).status_code == 422
    assert (await running.client.get(MANY, params={"queue": "a\x00b"})).json()["items"] == []
