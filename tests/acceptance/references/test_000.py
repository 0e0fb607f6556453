"""Reference 000: messages over an unreliable line, three retries after 1, 2 and 4 seconds, visible in the log."""

import re

import pytest
from tests.support.site import Site
from tests.support.waiting import eventually_sync

PATH = "/api/v1/tasks/send_message"


@pytest.fixture(scope="module")
def queue(site: Site) -> str:
    return site.serve("000-send-message")


def send(site: Site, msg: str) -> str:
    answer = site.http.post(PATH, params={"msg": msg})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["task_id"])


def test_the_message_is_a_query_parameter_of_the_documented_path(site: Site) -> None:
    """Swagger UI shows a text box for it."""
    operation = site.http.get("/openapi.json").json()["paths"][PATH]["post"]
    (parameter,) = [p for p in operation["parameters"] if p["name"] == "msg"]
    assert (parameter["in"], parameter["required"], parameter["schema"]["type"]) == ("query", True, "string")
    assert site.http.get("/docs").status_code == 200
    assert site.http.post(PATH).status_code == 422


def test_most_messages_need_retries_and_all_of_them_end(site: Site, queue: str) -> None:
    records = [site.api.wait(task_id, timeout_seconds=60) for task_id in [send(site, f"m{n}") for n in range(12)]]
    assert any(record["retries"] for record in records)  # all at the first try: 5 in 10 million
    for number, record in enumerate(records):
        if record["state"] == "succeeded":
            assert record["result"] == f"Message sent: m{number}"
        else:
            assert (record["state"], record["retries"], record["error"]["type"]) == ("failed", 3, "ConnectionError")


def test_a_message_that_always_fails_is_tried_four_times_with_growing_waits(site: Site) -> None:
    site.stack.stop_workers("send-message", kill=True)
    queue = site.serve("000-send-message", env={"SEND_FAILURE_RATE": "1"})
    try:
        task_id = send(site, "hello world")
        record = site.api.wait(task_id, timeout_seconds=40)
        assert (record["state"], record["retries"]) == ("failed", 3)
        log = eventually_sync(lambda: _lines_of(site.worker_log(queue), task_id, tries=4))
    finally:
        site.stack.stop_workers(queue, kill=True)
    assert re.findall(r"Retry in (\d+)s", log) == ["1", "2", "4"]


def _lines_of(log: str, task_id: str, tries: int) -> str | None:
    lines = "\n".join(line for line in log.splitlines() if task_id in line)
    return lines if lines.count("sending message, try") >= tries else None


@pytest.mark.smoke
def test_a_message_ends_on_the_other_stacks(other_site: Site) -> None:
    other_site.serve("000-send-message")
    assert other_site.api.wait(send(other_site, "hello"), timeout_seconds=60)["state"] in ("succeeded", "failed")
