"""The example apps of the five references run from their own TaskQueue files, and their HTTP contracts hold."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.waiting import eventually_sync

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COLD_SECONDS = 120  # six queues wake at the same time


@pytest.fixture(scope="module", autouse=True)
def examples(cluster: Cluster) -> Iterator[None]:
    """All TaskQueues of examples/, asleep until something is submitted."""
    files = [word for path in sorted(EXAMPLES.glob("*/taskqueue.yaml")) for word in ("-f", str(path))]
    cluster.kubectl("apply", *files)
    names = [item["metadata"]["name"] for item in cluster.find("taskqueue")]
    assert len(names) >= 6
    for name in names:
        eventually_sync(lambda n=name: cluster.api.request("GET", f"/queues/{n}").status_code == 200, 60, 0.3)
    yield
    cluster.delete("--all")


def call(cluster: Cluster, method: str, path: str, **options: Any) -> Any:
    answer = cluster.http.request(method, path, **options)
    assert answer.status_code in (200, 202), (path, answer.status_code, answer.text)
    return answer.json()


def test_hello_answers_in_one_request(cluster: Cluster) -> None:
    assert cluster.api.run("hello", "hello.add", 2, 3, wait_seconds=60)["result"] == 5


def test_000_sends_messages_over_an_unreliable_line(cluster: Cluster) -> None:
    sent = call(cluster, "POST", "/api/v1/tasks/send_message", params={"msg": "hello"})
    record = cluster.api.wait(sent["task_id"], timeout_seconds=COLD_SECONDS)
    if record["state"] == "succeeded":
        assert record["result"] == "Message sent: hello"
    else:
        assert (record["state"], record["retries"], record["error"]["type"]) == ("failed", 3, "ConnectionError")


def test_001_answers_synchronously_within_its_limit(cluster: Cluster) -> None:
    def probe() -> bool:
        body = call(cluster, "POST", "/delay", json={"delay": 0.2})
        assert set(body) <= {"status", "result", "message", "time"}
        return bool(body["status"] == "completed" and body["result"] == "Запрос выполнен успешно")

    eventually_sync(probe, COLD_SECONDS)  # until its first worker is there, the answer may be "pending"


def test_002_submits_a_payload(cluster: Cluster) -> None:
    body = call(cluster, "POST", "/tasks/submit", json={"data": "sample payload"})
    assert body["status"] == "submitted"
    record = cluster.api.wait(body["task_id"], timeout_seconds=COLD_SECONDS)
    assert (record["state"], record["result"]["length"]) == ("succeeded", len("sample payload"))


def test_003_updates_the_row_by_the_outcome(cluster: Cluster) -> None:
    row = call(cluster, "POST", "/tasks/", json={"name": "Process Data"})
    path = f"/tasks/{row['id']}"
    eventually_sync(lambda: call(cluster, "GET", path)["status"] == "completed", COLD_SECONDS, 0.3)
    assert call(cluster, "GET", path)["result"] == "Process Data processed"


def test_004_goes_from_pending_to_completed(cluster: Cluster) -> None:
    sample = {"title": "Report", "description": "monthly", "metadata": {"seconds": 0.2}}
    task_id = call(cluster, "POST", "/api/tasks", json=sample)["task_id"]
    path = f"/api/tasks/{task_id}"
    eventually_sync(lambda: call(cluster, "GET", path)["status"] == "COMPLETED", COLD_SECONDS, 0.3)
    done = call(cluster, "GET", path)
    assert {name: done[name] for name in sample} == sample
    assert json.dumps(done["completed_at"])


def test_without_the_key_nothing_is_answered(cluster: Cluster) -> None:
    for path in ("/api/v1/tasks", "/api/v1/queues", "/tasks/1"):
        assert cluster.http.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
