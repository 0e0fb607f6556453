"""Cancelling: before a worker has the task, while it runs, and when it is too late."""

import time
from pathlib import Path

from tests.support.ledger import read_ledger
from tests.support.stack import Stack
from tests.support.task_api import TaskApi


def test_a_scheduled_task_is_cancelled_at_once(api: TaskApi, jobs: str) -> None:
    task = api.submit(jobs, "jobs.add", 1, 1, countdown_seconds=60)
    answer = api.request("DELETE", f"/tasks/{task['id']}")

    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert api.get(task["id"])["state"] == "cancelled"


def test_a_queued_task_that_was_cancelled_never_runs(api: TaskApi, stack: Stack, idle_queue: str, ledger: str) -> None:
    task = api.submit(idle_queue, "jobs.record", ledger)
    api.wait(task["id"], "queued")
    assert api.request("DELETE", f"/tasks/{task['id']}").status_code == 200
    stack.start_worker(idle_queue)

    after = api.submit(idle_queue, "jobs.record", ledger)
    assert api.wait(task["id"])["state"] == "cancelled"
    assert api.wait(after["id"])["state"] == "succeeded"
    assert [run.id for run in read_ledger(Path(ledger))] == [after["id"]]


def test_a_running_task_is_stopped_only_with_terminate(api: TaskApi, jobs: str) -> None:
    task = api.submit(jobs, "jobs.sleep", 20)
    api.wait(task["id"], "running")
    polite = api.request("DELETE", f"/tasks/{task['id']}")
    assert polite.status_code == 409, polite.text
    begun = time.monotonic()
    # 200 where the worker was quicker than the answer.
    assert api.request("DELETE", f"/tasks/{task['id']}", params={"terminate": "true"}).status_code in (200, 202)

    assert api.wait(task["id"], timeout_seconds=10)["state"] == "cancelled"
    assert time.monotonic() - begun < 10
    assert api.run(jobs, "jobs.add", 2, 2)["result"] == 4


def test_a_cancelled_task_runs_when_it_is_retried(api: TaskApi, stack: Stack, idle_queue: str, ledger: str) -> None:
    """Neither a worker that heard of the cancellation nor one that starts later may refuse the new attempt."""
    task = api.submit(idle_queue, "jobs.record", ledger)
    api.wait(task["id"], "queued")
    assert api.request("DELETE", f"/tasks/{task['id']}").status_code == 200
    assert api.wait(task["id"])["state"] == "cancelled"
    stack.start_worker(idle_queue)
    after = api.submit(idle_queue, "jobs.record", ledger)
    api.wait(after["id"], "succeeded")

    assert api.request("POST", f"/tasks/{task['id']}:retry").status_code == 202
    record = api.wait(task["id"], "succeeded")
    assert record["attempt"] == 2
    assert [run.id for run in read_ledger(Path(ledger))] == [after["id"], task["id"]]


def test_a_finished_task_cannot_be_cancelled(api: TaskApi, jobs: str) -> None:
    record = api.run(jobs, "jobs.add", 1, 1)

    assert api.request("DELETE", f"/tasks/{record['id']}").status_code == 409
    assert api.get(record["id"])["state"] == "succeeded"
