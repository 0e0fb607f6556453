"""Tasks that do their worst: the worker survives, the record names the cause, crash loops end as `dead`."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.worker.harness import is_alive
from tests.support.stack import QueueOptions, Stack, Worker
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.timeout(150, func_only=True)

APP = Path(__file__).parent / "app"
QUEUE = "poison"
END_SECONDS = 60  # a lost process is noticed within seconds; the machine may be busy
FLOOD_BYTES = 50_000_000

# name -> (task, arguments, final state, what its error must say; None: no error)
CASES = {
    "segfault": ("segfault", [], "dead", r"signal 11 \(SIGSEGV\)"),
    "os._exit": ("leave", [7], "dead", r"exitcode 7"),
    "sys.exit": ("exit_politely", [3], "dead", r"exitcode 3"),
    "kill -9, as when memory runs out": ("be_killed", [], "dead", r"signal 9 \(SIGKILL\).*memory"),
    "leaks to its memory limit": ("leak", [], "failed", r"^MemoryError"),
    "forks, both return": ("fork_and_return", [], "succeeded", None),
    "forks, the child exits": ("fork_and_exit", [], "succeeded", None),
    "forks, the child raises": ("fork_and_fail", [], "succeeded", None),
    "sleeps past the hard limit, deaf to SIGTERM": ("oversleep", [], "failed", r"TimeLimitExceeded.*2"),
    "returns 50 MB": ("flood", [FLOOD_BYTES], "succeeded", None),
    "returns what cannot be serialised": ("give_object", [], "failed", r"EncodeError.*lock"),
    "returns a circle": ("give_circle", [], "failed", r"[Cc]ircular"),
    "raises what cannot be pickled": ("raise_unpicklable", [], "failed", r"Unpicklable.*holds a lock"),
    "raises what cannot be shown": ("raise_unprintable", [], "failed", r"Unprintable"),
    "raises KeyboardInterrupt": ("raise_interrupt", [], "dead", r"exitcode|KeyboardInterrupt"),
    "raises with 5 MB of text": ("shout", [5_000_000], "failed", r"^ValueError: x{100}"),
    "recurses for ever": ("recurse", [], "failed", r"^RecursionError"),
}


@pytest.fixture(scope="module")
def api(stack: Stack) -> TaskApi:
    """The first API replica."""
    return TaskApi(stack.client(0))


@pytest.fixture(scope="module")
def worker(stack: Stack) -> Iterator[Worker]:
    """One worker for all of it, whose queue allows one second delivery."""
    stack.add_queue(QUEUE, QueueOptions(concurrency=4, delivery_limit=1, max_task_seconds=120))
    yield stack.start_worker(QUEUE, app="poison:app", cwd=APP)
    stack.stop_workers(QUEUE, kill=True)


@pytest.fixture(scope="module")
def submitted(api: TaskApi, worker: Worker) -> dict[str, str]:
    """Every case at once: id by name. They run side by side, so each has the others for neighbours."""
    return {name: api.submit(QUEUE, f"poison.{task}", *args)["id"] for name, (task, args, _, _) in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_record_says_what_happened(api: TaskApi, submitted: dict[str, str], name: str) -> None:
    _, _, state, pattern = CASES[name]
    record = api.wait(submitted[name], timeout_seconds=END_SECONDS)
    error = record["error"]
    said = f"{error['type']}: {error['message']}" if error else ""
    assert record["state"] == state, (record["state"], said)
    assert (error is None) if pattern is None else re.search(pattern, said), said[:500]
    assert len(str(record)) < 200_000


def test_what_a_fork_left_reports_nothing(api: TaskApi, submitted: dict[str, str]) -> None:
    for name in ("forks, both return", "forks, the child exits", "forks, the child raises"):
        record = api.wait(submitted[name], timeout_seconds=END_SECONDS)
        assert (record["result"], record["deliveries"]) == ("parent", 1), name


def test_a_flood_is_told_by_its_size(api: TaskApi, submitted: dict[str, str]) -> None:
    record = api.wait(submitted["returns 50 MB"], timeout_seconds=END_SECONDS)
    assert record["result"] is None
    assert record["result_omitted_bytes"] == FLOOD_BYTES + 2


def test_deaf_tasks_are_ended_by_a_terminating_cancel(
    api: TaskApi, submitted: dict[str, str], worker: Worker, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    task = api.submit(QUEUE, "poison.ignore_term", str(started))["id"]
    eventually_sync(lambda: started.exists() and started.read_text(), END_SECONDS)
    assert api.request("DELETE", f"/tasks/{task}?terminate=true").status_code in (200, 202)
    assert api.wait(task, timeout_seconds=END_SECONDS)["state"] == "cancelled"
    eventually_sync(lambda: not is_alive(int(started.read_text())), END_SECONDS)


def test_a_mended_task_is_redriven(api: TaskApi, submitted: dict[str, str], worker: Worker, tmp_path: Path) -> None:
    flag = tmp_path / "mended"
    task = api.submit(QUEUE, "poison.crash_until", str(flag))["id"]
    assert api.wait(task, timeout_seconds=END_SECONDS)["state"] == "dead"
    flag.touch()
    answer = api.request("POST", f"/tasks/{task}:retry")
    assert answer.status_code == 202, answer.text
    record = api.wait(task, "succeeded", timeout_seconds=END_SECONDS)
    assert (record["result"], record["attempt"]) == ("mended", 2)
    assert "SIGSEGV" in record["attempts"][0]["error"]["message"]


def test_the_worker_survives_it_all(api: TaskApi, submitted: dict[str, str], worker: Worker) -> None:
    for task in submitted.values():
        api.wait(task, timeout_seconds=END_SECONDS)
    assert worker.process.is_running
    records = [api.run(QUEUE, "poison.well", wait_seconds=60) for _ in range(8)]
    assert {record["state"] for record in records} == {"succeeded"}
    assert {record["worker"] for record in records} == {worker.host}
