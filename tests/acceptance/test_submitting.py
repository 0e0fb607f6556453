"""Submitting one task or many: what is accepted, what is refused, and what a repeated request does."""

import json
import uuid
from urllib.parse import urlsplit

import pytest
from tests.support.task_api import TaskApi


def test_a_submitted_task_runs_and_its_result_can_be_read(api: TaskApi, jobs: str) -> None:
    answer = api.request("POST", "/tasks", json={"queue": jobs, "task": "jobs.add", "args": [1, 2]})

    assert answer.status_code == 202
    body = answer.json()
    assert urlsplit(answer.headers["location"]).path == f"/api/v1/tasks/{body['id']}"
    assert uuid.UUID(body["id"]).version == 7
    record = api.wait(body["id"])
    assert (record["state"], record["result"], record["attempt"]) == ("succeeded", 3, 1)
    assert record["worker"]
    assert record["created_at"] <= record["finished_at"]


def test_waiting_answers_with_the_result(api: TaskApi, jobs: str) -> None:
    record = api.run(jobs, "jobs.echo", 1, "zwei", kwargs={"drei": [3.5, None, True]})

    assert record["state"] == "succeeded"
    assert record["result"] == {"args": [1, "zwei"], "kwargs": {"drei": [3.5, None, True]}}


def test_a_wait_that_is_over_answers_202_and_the_task_goes_on(api: TaskApi, jobs: str) -> None:
    body = {"queue": jobs, "task": "jobs.sleep", "args": [2]}
    answer = api.request("POST", "/tasks", json=body, headers={"Prefer": "wait=1"})

    assert answer.status_code == 202
    assert answer.json()["state"] in ("queued", "running"), "as it is now, not as it was accepted"
    assert api.wait(answer.json()["id"])["result"] == 2


def test_arguments_metadata_and_unicode_come_back_as_they_were_sent(api: TaskApi, jobs: str) -> None:
    args = ["\u00fcber", "\U0001f680", 2**53 + 1, -1.5e-7, {"deep": [[[]]]}]
    metadata = {"order": "A-17", "tags": ["x"], "weight": 3}
    record = api.run(jobs, "jobs.echo", *args, metadata=metadata)

    assert record["result"]["args"] == args
    assert (record["args"], record["metadata"]) == (args, metadata)


def test_a_failed_task_shows_type_message_and_traceback(api: TaskApi, jobs: str) -> None:
    record = api.run(jobs, "jobs.fail", "out of paper")

    assert record["state"] == "failed"
    assert record["error"]["type"].endswith("ValueError")
    assert "out of paper" in record["error"]["message"]
    assert "jobs.py" in record["error"]["traceback"]


def test_the_same_idempotency_key_gives_the_first_answer_from_any_replica(
    api: TaskApi, other_api: TaskApi, jobs: str
) -> None:
    headers = {"Idempotency-Key": f"key-{uuid.uuid4()}"}
    body = {"queue": jobs, "task": "jobs.add", "args": [4, 5]}
    first = api.request("POST", "/tasks", json=body, headers=headers)
    again = other_api.request("POST", "/tasks", json=body, headers=headers)

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"


def test_an_idempotency_key_with_another_body_is_a_conflict(api: TaskApi, jobs: str) -> None:
    headers = {"Idempotency-Key": f"key-{uuid.uuid4()}"}
    api.submit(jobs, "jobs.add", 1, 1, headers=headers)
    answer = api.request("POST", "/tasks", json={"queue": jobs, "task": "jobs.add", "args": [1, 2]}, headers=headers)

    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("ndjson", [False, True], ids=["json", "ndjson"])
def test_a_batch_is_accepted_item_by_item(api: TaskApi, jobs: str, ndjson: bool) -> None:
    items: list[dict[str, object]] = [{"queue": jobs, "task": "jobs.add", "args": [n, n]} for n in range(50)]
    items[7]["queue"] = "nowhere"
    if ndjson:
        content, kind = "\n".join(json.dumps(item) for item in items), "application/x-ndjson"
    else:
        content, kind = json.dumps(items), "application/json"
    answer = api.request("POST", "/tasks:batch", content=content, headers={"Content-Type": kind})

    assert answer.status_code == 200, answer.text
    outcomes = answer.json()["items"]
    assert len(outcomes) == 50
    assert [n for n, outcome in enumerate(outcomes) if outcome["status"] != 202] == [7]
    assert outcomes[7]["status"] == outcomes[7]["problem"]["status"] == 404
    for number in (0, 6, 8, 49):
        assert api.wait(outcomes[number]["id"])["result"] == 2 * number


def test_an_atomic_batch_with_one_bad_item_accepts_nothing(api: TaskApi, jobs: str) -> None:
    marker = uuid.uuid4().hex
    items = [
        {"queue": jobs, "task": "jobs.add", "args": [1, 1], "metadata": {"batch": marker}},
        {"queue": "nowhere", "task": "jobs.add", "metadata": {"batch": marker}},
    ]
    answer = api.request("POST", "/tasks:batch", json=items, params={"atomic": "true"})

    assert 400 <= answer.status_code < 500
    listed = api.request("GET", "/tasks", params={"metadata": f"batch={marker}"}).json()
    assert listed["items"] == []


def test_an_unknown_queue_is_404_and_names_those_that_exist(api: TaskApi, jobs: str) -> None:
    answer = api.request("POST", "/tasks", json={"queue": "jbos", "task": "jobs.add"})

    assert answer.status_code == 404
    assert jobs in answer.text


def test_an_unknown_task_name_is_422_with_near_matches(api: TaskApi, jobs: str) -> None:
    answer = api.request("POST", "/tasks", json={"queue": jobs, "task": "jobs.ad"})

    assert answer.status_code == 422
    assert "jobs.add" in answer.text


def test_a_wrong_field_is_named_by_its_pointer(api: TaskApi, jobs: str) -> None:
    answer = api.request("POST", "/tasks", json={"queue": jobs, "task": "jobs.add", "priority": 11})

    assert answer.status_code == 422
    assert "#/priority" in [error["pointer"] for error in answer.json()["errors"]]


def test_trace_context_reaches_the_task(api: TaskApi, jobs: str) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {"queue": jobs, "task": "jobs.headers"}
    answer = api.request("POST", "/tasks", json=body, headers={"Prefer": "wait=20", "traceparent": traceparent})

    assert answer.json()["result"]["traceparent"].split("-")[1] == traceparent.split("-")[1]
