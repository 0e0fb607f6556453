"""More than one API process: each sees what the other accepted, and a rollout loses nothing."""

from concurrent.futures import ThreadPoolExecutor

import httpx
from tests.support.stack import API_PREFIX, Stack
from tests.support.task_api import TaskApi


def test_a_stream_of_one_replica_sees_the_end_of_a_task_of_the_other(
    api: TaskApi, other_api: TaskApi, jobs: str
) -> None:
    task = api.submit(jobs, "jobs.sleep", 1)
    with other_api.events(task["id"]) as stream:
        last = list(stream)[-1]

    assert last.data["state"] == "succeeded"
    assert other_api.get(task["id"])["result"] == 1


def test_two_requests_with_one_key_at_the_same_time_make_one_task(
    stack: Stack, api: TaskApi, other_api: TaskApi, jobs: str
) -> None:
    body = {"queue": jobs, "task": "jobs.add", "args": [8, 9]}
    for round_number in range(10):
        headers = {"Idempotency-Key": f"race-{round_number}-{stack.base_url}"}
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(
                    lambda n, headers=headers: httpx.post(
                        stack.url_of(n % 2) + API_PREFIX + "/tasks", json=body, headers=headers, timeout=20
                    ),
                    range(8),
                )
            )
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_replica_that_is_stopped_leaves_nothing_behind(stack: Stack, api: TaskApi, jobs: str) -> None:
    number = stack.add_api()
    leaving = TaskApi(stack.client(number))
    tasks = [leaving.submit(jobs, "jobs.add", n, 1) for n in range(20)]
    assert stack.stop_api(number) == 0

    assert [api.wait(task["id"])["result"] for task in tasks] == [n + 1 for n in range(20)]
