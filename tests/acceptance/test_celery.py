"""Celery stays Celery: its producers, results, canvas, remote control and Flower work next to the HTTP API."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from celery import Celery, Signature, chain, chord, group
from celery.result import AsyncResult
from tests.support.processes import free_port, start_process
from tests.support.stack import Stack
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync


@pytest.fixture(scope="module")
def producer(stack: Stack, jobs: str) -> Iterator[Celery]:
    """A plain Celery client of the same broker, with Celery's own Redis backend."""
    app = Celery("producer", broker=stack.broker_url, backend=stack.valkey.url)
    app.conf.task_default_queue = jobs
    app.conf.task_default_queue_type = "quorum"
    yield app
    app.close()


@pytest.fixture(scope="module")
def send(producer: Celery) -> Callable[..., Signature]:
    """Signatures as a producer writes them that does not import the worker's code."""

    def build(name: str, *args: Any) -> Signature:
        return producer.signature(name, args=args)

    return build


def test_a_task_of_a_celery_producer_gets_a_record(api: TaskApi, send: Callable[..., Signature], jobs: str) -> None:
    result = send("jobs.add", 20, 22).apply_async()

    assert result.get(timeout=20) == 42
    record = eventually_sync(lambda: _record_or_none(api, result.id), 15)
    assert (record["state"], record["result"], record["origin"]) == ("succeeded", 42, "celery")
    assert (record["queue"], record["task"]) == (jobs, "jobs.add")


def _record_or_none(api: TaskApi, task_id: str) -> dict[str, Any] | None:
    answer = api.request("GET", f"/tasks/{task_id}")
    return answer.json() if answer.status_code == 200 and answer.json()["state"] == "succeeded" else None


def test_async_result_reads_a_task_that_was_submitted_over_http(api: TaskApi, producer: Celery, jobs: str) -> None:
    task = api.submit(jobs, "jobs.add", 2, 3)

    assert AsyncResult(task["id"], app=producer).get(timeout=20) == 5


def test_async_result_raises_the_error_of_a_task_that_was_submitted_over_http(
    api: TaskApi, producer: Celery, jobs: str
) -> None:
    task = api.submit(jobs, "jobs.fail", "no luck")

    with pytest.raises(ValueError, match="no luck"):
        AsyncResult(task["id"], app=producer).get(timeout=20)


def test_chains_groups_and_chords_run(send: Callable[..., Signature]) -> None:
    assert chain(send("jobs.add", 1, 2), send("jobs.add", 10)).apply_async().get(timeout=20) == 13
    assert group(send("jobs.add", n, n) for n in range(4)).apply_async().get(timeout=20) == [0, 2, 4, 6]
    header = [send("jobs.add", n, n) for n in range(5)]
    assert chord(header, send("jobs.total")).apply_async().get(timeout=20) == 20


def test_a_canvas_started_inside_a_task_runs(api: TaskApi, producer: Celery, jobs: str) -> None:
    record = api.run(jobs, "jobs.canvas")

    assert AsyncResult(record["result"], app=producer).get(timeout=20) == 6


def test_remote_control_answers(producer: Celery, stack: Stack, jobs: str) -> None:
    inspect = producer.control.inspect(timeout=5)

    assert any(jobs in name for name in inspect.ping() or {})
    assert any("jobs.add" in tasks for tasks in (inspect.registered() or {}).values())


def test_a_celery_revoke_ends_a_task_that_was_submitted_over_http(api: TaskApi, producer: Celery, jobs: str) -> None:
    task = api.submit(jobs, "jobs.sleep", 30)
    api.wait(task["id"], "running")
    producer.control.revoke(task["id"], terminate=True)

    assert api.wait(task["id"], timeout_seconds=15)["state"] == "cancelled"


def test_flower_sees_the_workers_and_their_tasks(api: TaskApi, stack: Stack, jobs: str) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flower = start_process(
        [sys.executable, "-m", "celery", f"--broker={stack.broker_url}", "flower", f"--port={port}"],
        env={"FLOWER_UNAUTHENTICATED_API": "true", "FLOWER_ADDRESS": "127.0.0.1"},
        log=stack.directory / "flower.log",
        cwd=stack.directory,
        ready=lambda: _answers(url),
    )
    try:
        eventually_sync(lambda: jobs in httpx.get(f"{url}/api/workers?refresh=1", timeout=20).text, 30, 0.5)

        def seen() -> bool:
            task = api.run(jobs, "jobs.add", 6, 7)
            return task["id"] in httpx.get(f"{url}/api/tasks", timeout=10).text

        eventually_sync(seen, 20, 0.5)
    finally:
        flower.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code < 500
    except httpx.HTTPError:
        return False
