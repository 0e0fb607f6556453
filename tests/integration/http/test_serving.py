"""The server process: it stops cleanly with everything handed over, and says what is wrong when it cannot start."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from tests.support.processes import free_port
from tests.support.stack import Stack, StackOptions, running_stack
from tests.support.waiting import eventually_sync

URL = "/api/v1/tasks"
TASK = {"queue": "jobs", "task": "jobs.add"}


@pytest.fixture
def own() -> Iterator[Stack]:
    """A stack that a test may break."""
    with running_stack(StackOptions(broker="valkey", database="sqlite")) as stack:
        stack.add_queue("jobs")
        yield stack


def test_a_stop_signal_ends_streams_and_waits_and_loses_nothing(own: Stack) -> None:
    """SIGTERM: the stream ends, the wait answers 202, the exit code is 0 and every accepted task is in the queue."""
    client = own.client()
    url = own.base_url + URL
    accepted = [client.post(URL, json=TASK).json()["id"] for _ in range(50)]
    ends: dict[str, object] = {}
    told = threading.Event()

    def follow() -> None:
        with httpx.stream("GET", f"{url}/{accepted[0]}/events", timeout=30, trust_env=False) as answer:
            for line in answer.iter_lines():
                if line.startswith("event"):
                    ends.setdefault("stream", line)
                    told.set()

    def wait() -> None:
        headers = {"Prefer": "wait=30"}
        ends["wait"] = httpx.post(url, json=TASK, headers=headers, timeout=40, trust_env=False).status_code

    threads = [threading.Thread(target=follow), threading.Thread(target=wait)]
    for thread in threads:
        thread.start()
    eventually_sync(lambda: _count_open_streams(client) == 2)
    assert told.wait(10)
    begun = time.monotonic()
    assert own.stop_api() == 0
    assert time.monotonic() - begun < 10
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert ends == {"stream": "event: state", "wait": 202}
    with redis.Redis.from_url(own.valkey.url) as broker:
        # One list for each priority step.
        assert sum(int(broker.llen(key)) for key in broker.keys("jobs*")) == 51


def _count_open_streams(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("taskfleet_api_streams{"))


def test_without_redis_tasks_are_accepted_and_published_later(own: Stack) -> None:
    """Valkey is broker and store here: everything but the database is away."""
    client = own.client()
    own.valkey.kill()
    answer = client.post(URL, json=TASK)
    assert answer.status_code == 202
    assert client.get(answer.headers["location"]).json()["state"] == "pending"
    eventually_sync(lambda: client.get("/readyz").json()["status"] == "degraded")
    own.valkey.start()
    eventually_sync(lambda: client.get(answer.headers["location"]).json()["state"] == "queued", 30)
    eventually_sync(lambda: client.get("/readyz").json()["status"] == "ready", 30)


def test_an_address_that_cannot_be_had_stops_the_start(tmp_path: Path) -> None:
    assert _run(tmp_path, {"TASKFLEET_API_HOST": "192.0.2.1"}).returncode != 0


def test_a_mistyped_setting_stops_the_start(tmp_path: Path) -> None:
    run = _run(tmp_path, {"TASKFLEET_API_PROT": "1"})
    assert run.returncode != 0
    assert "prot" in run.stderr


def _run(tmp_path: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    values = {
        "TASKFLEET_API_DATABASE_URL": f"sqlite:///{tmp_path / 'x.sqlite3'}",
        "TASKFLEET_API_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "TASKFLEET_API_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    command = [sys.executable, "-m", "taskfleet_api"]
    return subprocess.run(command, env=values | environment, capture_output=True, text=True, timeout=60, check=False)
