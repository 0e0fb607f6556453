"""Time: later starts, expiry, time limits, priorities and schedules."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.ledger import read_ledger
from tests.support.stack import Stack
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync


def test_a_task_with_an_eta_starts_then_and_not_before(api: TaskApi, jobs: str) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=2)
    task = api.submit(jobs, "jobs.started_at", eta=eta.isoformat())
    assert task["state"] == "scheduled"

    record = api.wait(task["id"])
    assert eta.timestamp() <= record["result"] < eta.timestamp() + 5


def test_a_countdown_is_an_eta_from_now(api: TaskApi, jobs: str) -> None:
    sent = time.time()
    task = api.submit(jobs, "jobs.started_at", countdown_seconds=1.5)

    assert api.wait(task["id"])["result"] >= sent + 1.5


def test_a_task_that_waits_too_long_expires_and_never_runs(
    api: TaskApi, stack: Stack, idle_queue: str, ledger: str
) -> None:
    task = api.submit(idle_queue, "jobs.record", ledger, ttl_seconds=1)
    assert api.wait(task["id"], timeout_seconds=15)["state"] == "expired"
    stack.start_worker(idle_queue)
    after = api.submit(idle_queue, "jobs.add", 1, 1)
    api.wait(after["id"], "succeeded")

    assert not Path(ledger).exists()
    assert api.get(task["id"])["state"] == "expired"


def test_a_scheduled_task_that_expires_before_its_eta_is_expired(api: TaskApi, jobs: str) -> None:
    task = api.submit(jobs, "jobs.add", 1, 1, countdown_seconds=60, ttl_seconds=1)
    assert api.wait(task["id"], timeout_seconds=10)["state"] == "expired"


def test_a_task_over_its_time_limit_fails_and_the_worker_lives(api: TaskApi, jobs: str) -> None:
    task = api.submit(jobs, "jobs.sleep", 30, timeout_seconds=1)

    record = api.wait(task["id"], timeout_seconds=15)
    assert record["state"] == "failed"
    assert "TimeLimit" in record["error"]["type"]
    assert api.run(jobs, "jobs.add", 1, 2)["result"] == 3


def test_higher_priority_runs_first(api: TaskApi, stack: Stack, idle_queue: str, ledger: str) -> None:
    for priority in (0, 5, 9, 1):
        task = api.submit(idle_queue, "jobs.record_order", ledger, str(priority), priority=priority)
        api.wait(task["id"], "queued")
    stack.start_worker(idle_queue, concurrency=1)

    eventually_sync(lambda: Path(ledger).exists() and len(Path(ledger).read_text().split()) == 4, 20)
    assert Path(ledger).read_text().split() == ["9", "5", "1", "0"]


def test_an_interval_schedule_runs_each_tick_once_over_two_replicas(
    api: TaskApi, other_api: TaskApi, jobs: str, ledger: str
) -> None:
    body = {"queue": jobs, "task": "jobs.record", "args": [ledger], "interval_seconds": 1}
    made = api.request("PUT", "/schedules/each-second", json=body)
    assert made.status_code == 201, made.text
    eventually_sync(lambda: Path(ledger).exists() and len(Path(ledger).read_text().splitlines()) >= 4, 20)
    assert other_api.request("DELETE", "/schedules/each-second").status_code == 204

    runs = read_ledger(Path(ledger))
    assert len({run.id for run in runs}) == len(runs), "a task ran twice"
    assert len(runs) - 1 <= runs[-1].at - runs[0].at + 1, "more ticks than seconds"
    assert api.request("GET", "/schedules/each-second").status_code == 404


def test_a_cron_schedule_says_when_it_runs_next(api: TaskApi, jobs: str) -> None:
    body = {"queue": jobs, "task": "jobs.add", "args": [1, 1], "cron": "30 6 * * 1-5", "time_zone": "Europe/Berlin"}
    made = api.request("PUT", "/schedules/workdays", json=body)
    try:
        assert made.status_code == 201, made.text
        shown = api.request("GET", "/schedules/workdays").json()
        assert shown["next_at"][11:16] in ("04:30", "05:30")
        assert "workdays" in api.request("GET", "/schedules").text
    finally:
        api.request("DELETE", "/schedules/workdays")
