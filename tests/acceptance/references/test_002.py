"""Reference 002: submit a payload, get a task id; Flower watches."""

import sys
from pathlib import Path

import httpx
import pytest
from tests.support.processes import free_port, start_process
from tests.support.site import Site
from tests.support.waiting import eventually_sync


def submit(site: Site) -> str:
    answer = site.http.post("/tasks/submit", json={"data": "sample payload"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body == {"task_id": body["task_id"], "status": "submitted"}
    return str(body["task_id"])


def test_a_payload_is_submitted_and_worked_on(site: Site) -> None:
    site.serve("002-submit")
    record = site.api.wait(submit(site))
    assert (record["state"], record["result"]["length"]) == ("succeeded", len("sample payload"))


@pytest.mark.parametrize("body", [{}, {"data": 5}, {"data": "nul \x00"}, []])
def test_wrong_input_is_refused(site: Site, body: object) -> None:
    assert site.http.post("/tasks/submit", json=body).status_code == 422


def test_flower_shows_the_task_and_the_worker(site: Site, tmp_path: Path) -> None:
    site.serve("002-submit")
    url = f"http://127.0.0.1:{(port := free_port())}"
    flower = start_process(
        [sys.executable, "-m", "celery", "flower", f"--port={port}", "--address=127.0.0.1"],
        env={"CELERY_BROKER_URL": site.stack.broker_url, "FLOWER_UNAUTHENTICATED_API": "true"},
        cwd=tmp_path,
        log=tmp_path / "flower.log",
        ready=lambda: _answers(url + "/healthcheck"),
    )
    try:
        eventually_sync(lambda: "celery@submit" in httpx.get(url + "/workers?json=1", trust_env=False).text, 30)
        task_id = submit(site)
        eventually_sync(lambda: _state_in_flower(url, task_id) == "SUCCESS", 30, interval_seconds=0.2)
    finally:
        flower.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _state_in_flower(url: str, task_id: str) -> str | None:
    answer = httpx.get(f"{url}/api/task/info/{task_id}", timeout=5, trust_env=False)
    return str(answer.json()["state"]) if answer.status_code == 200 else None


@pytest.mark.smoke
def test_a_payload_is_worked_on_on_the_other_stacks(other_site: Site) -> None:
    other_site.serve("002-submit")
    assert other_site.api.wait(submit(other_site))["state"] == "succeeded"
