"""One short way through the whole product on the two other pairs of broker and database."""

import json
from pathlib import Path

import pytest
from tests.support.site import Site
from tests.support.stack import QueueOptions, Stack
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def smoke_stack(other_site: Site) -> Stack:
    """The stacks that the references run on too."""
    return other_site.stack


@pytest.fixture(scope="module")
def smoke_api(smoke_stack: Stack) -> TaskApi:
    """The API of the stack at hand, with a worker on the queue `jobs`."""
    smoke_stack.ensure_worker("jobs", QueueOptions(concurrency=2))
    return TaskApi(smoke_stack.client())


def test_submit_wait_list_and_stream(smoke_api: TaskApi) -> None:
    assert smoke_api.run("jobs", "jobs.add", 1, 2, metadata={"smoke": "yes"})["result"] == 3
    listed = smoke_api.request("GET", "/tasks", params={"metadata": "smoke=yes"}).json()
    assert len(listed["items"]) == 1
    task = smoke_api.submit("jobs", "jobs.progress", 3)
    with smoke_api.events(task["id"]) as stream:
        assert list(stream)[-1].data["state"] == "succeeded"


def test_a_batch_an_eta_and_a_cancellation(smoke_api: TaskApi) -> None:
    items = [{"queue": "jobs", "task": "jobs.add", "args": [n, 1]} for n in range(100)]
    answer = smoke_api.request("POST", "/tasks:batch", json=items)
    later = smoke_api.submit("jobs", "jobs.add", 5, 5, countdown_seconds=1)
    dropped = smoke_api.submit("jobs", "jobs.add", 5, 5, countdown_seconds=60)
    smoke_api.request("DELETE", f"/tasks/{dropped['id']}")

    results = [smoke_api.wait(item["id"])["result"] for item in answer.json()["items"]]
    assert results == [n + 1 for n in range(100)]
    assert smoke_api.wait(later["id"])["result"] == 10
    assert smoke_api.wait(dropped["id"])["state"] == "cancelled"


def test_retries_of_celery_and_of_the_platform(smoke_api: TaskApi, tmp_path: Path) -> None:
    assert smoke_api.run("jobs", "jobs.flaky", str(tmp_path / "celery"), 2)["result"] == 2
    policy = {"max_attempts": 2, "backoff_seconds": 0.1, "jitter": False}
    record = smoke_api.run("jobs", "jobs.fail_until", str(tmp_path / "platform"), 2, retry=policy)
    assert (record["result"], record["attempt"]) == (2, 2)


def test_a_worker_that_is_killed_loses_nothing(smoke_api: TaskApi, smoke_stack: Stack, ledger: str) -> None:
    smoke_stack.ensure_worker("mortal", QueueOptions(concurrency=1))
    task = smoke_api.submit("mortal", "jobs.record", ledger, 3)
    eventually_sync(lambda: Path(ledger).exists(), 20)
    smoke_stack.stop_workers("mortal", kill=True)
    smoke_stack.start_worker("mortal")

    assert smoke_api.wait(task["id"], timeout_seconds=60)["state"] == "succeeded"
    notes = [json.loads(line) for line in Path(ledger).read_text().splitlines()]
    assert sum(note.get("id") == task["id"] for note in notes) == 2, notes
