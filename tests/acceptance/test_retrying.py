"""Trying again: Celery's own retries, the platform's retries, by hand, and dead letters."""

from pathlib import Path

from tests.support.stack import Stack
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync


def test_celery_retries_stay_one_attempt(api: TaskApi, jobs: str, tmp_path: Path) -> None:
    record = api.run(jobs, "jobs.flaky", str(tmp_path / "runs"), 3)

    assert (record["state"], record["result"], record["attempt"], record["retries"]) == ("succeeded", 3, 1, 2)


def test_the_platform_retries_a_failure_as_new_attempts(api: TaskApi, jobs: str, tmp_path: Path) -> None:
    policy = {"max_attempts": 3, "backoff_seconds": 0.2, "jitter": False}
    task = api.submit(jobs, "jobs.fail_until", str(tmp_path / "runs"), 3, retry=policy)

    record = api.wait(task["id"])
    assert (record["state"], record["result"], record["attempt"]) == ("succeeded", 3, 3)
    assert [attempt["attempt"] for attempt in record["attempts"]][:2] == [1, 2]


def test_the_platform_gives_up_after_the_last_attempt(api: TaskApi, jobs: str) -> None:
    policy = {"max_attempts": 2, "backoff_seconds": 0.1, "jitter": False}
    record = api.run(jobs, "jobs.fail", "always", retry=policy)

    assert (record["state"], record["attempt"]) == ("failed", 2)


def test_a_failed_task_runs_again_by_hand(api: TaskApi, jobs: str, tmp_path: Path) -> None:
    first = api.run(jobs, "jobs.fail_until", str(tmp_path / "runs"), 2)
    assert first["state"] == "failed"
    answer = api.request("POST", f"/tasks/{first['id']}:retry")
    assert answer.status_code == 202, answer.text

    eventually_sync(lambda: api.get(first["id"])["state"] == "succeeded", 20)
    assert api.get(first["id"])["attempt"] == 2


def test_a_task_that_succeeded_is_not_retried(api: TaskApi, jobs: str) -> None:
    record = api.run(jobs, "jobs.add", 1, 1)

    assert api.request("POST", f"/tasks/{record['id']}:retry").status_code == 409


def test_a_task_that_kills_its_workers_is_dead_then_redriven(
    api: TaskApi, stack: Stack, idle_queue: str, tmp_path: Path
) -> None:
    stack.start_worker(idle_queue)
    task = api.submit(idle_queue, "jobs.die_until", str(tmp_path / "runs"), 4)
    record = api.wait(task["id"], timeout_seconds=45)
    assert record["state"] == "dead"
    assert record["error"]

    answer = api.request("POST", f"/queues/{idle_queue}/dead:redrive")
    assert answer.status_code == 200, answer.text
    eventually_sync(lambda: api.get(task["id"])["state"] == "succeeded", 20)
    assert api.get(task["id"])["attempt"] == 2


def test_dead_tasks_can_be_purged(api: TaskApi, stack: Stack, idle_queue: str) -> None:
    stack.start_worker(idle_queue)
    task = api.submit(idle_queue, "jobs.die_hard")
    assert api.wait(task["id"], timeout_seconds=45)["state"] == "dead"
    answer = api.request("POST", f"/queues/{idle_queue}/dead:purge")

    assert answer.status_code == 200, answer.text
    assert api.request("GET", f"/tasks/{task['id']}").status_code == 404
