"""Reference 001: a synchronous answer within TASK_TIMEOUT seconds, the queue included, in its own words."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.site import TASK_TIMEOUT_SECONDS, Site
from tests.support.waiting import eventually_sync

COMPLETED = {"status": "completed", "result": "Запрос выполнен успешно"}
PENDING = {"status": "pending", "message": "Пока не можем обработать ваш запрос, попробуйте позже"}


@pytest.fixture(autouse=True)
def queue(request: pytest.FixtureRequest) -> None:
    """A worker on the main site; the tests on the other stacks do without it."""
    if "other_site" not in request.fixturenames:
        request.getfixturevalue("site").serve("001-delay")


def post(site: Site, delay: float) -> tuple[dict[str, Any], float]:
    """The answer without its time, and the time."""
    answer = site.http.post("/delay", json={"delay": delay})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body, body.pop("time")


def wait_until_running(site: Site, state: str, count: int) -> None:
    def probe() -> bool:
        listed = site.api.request("GET", "/tasks", params={"queue": "delay", "state": state}).json()["items"]
        return len(listed) == count

    eventually_sync(probe, 30)


def test_work_within_the_limit_is_completed(site: Site) -> None:
    body, taken = post(site, 1)
    assert body == COMPLETED
    assert 1 <= taken < TASK_TIMEOUT_SECONDS


def test_a_request_behind_another_one_counts_the_time_in_the_queue(site: Site) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, site, 2)
        wait_until_running(site, "running", 1)
        began = time.monotonic()
        second = pool.submit(post, site, 0.5)
        (first_body, first_taken), (second_body, second_taken) = first.result(), second.result()
        elapsed = time.monotonic() - began
    assert first_body == second_body == COMPLETED
    assert first_taken >= 2
    assert 0.6 < second_taken <= elapsed


def test_work_beyond_the_limit_is_pending_and_goes_on(site: Site) -> None:
    body, taken = post(site, TASK_TIMEOUT_SECONDS + 1)
    assert body == PENDING
    assert TASK_TIMEOUT_SECONDS <= taken < TASK_TIMEOUT_SECONDS + 3
    wait_until_running(site, "running", 0)
    newest = site.api.request("GET", "/tasks", params={"queue": "delay"}).json()["items"][0]
    assert newest["state"] == "succeeded"


def test_progress_is_tracked(site: Site) -> None:
    post(site, 1)
    newest = site.api.request("GET", "/tasks", params={"queue": "delay"}).json()["items"][0]
    assert newest["progress"]["total_seconds"] == 1


@pytest.mark.parametrize("body", [{}, {"delay": -1}, {"delay": "long"}, {"delay": 1e9}, {"delay": None}])
def test_wrong_input_is_refused(site: Site, body: dict[str, object]) -> None:
    answer = site.http.post("/delay", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["body", "delay"]


@pytest.mark.smoke
def test_work_is_completed_on_the_other_stacks(other_site: Site) -> None:
    other_site.serve("001-delay")
    body, taken = post(other_site, 0.5)
    assert body == COMPLETED
    assert taken >= 0.5
