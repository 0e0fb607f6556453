"""Local mode as a user has it: `taskfleet up` and the commands beside it, as real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.cli.running import Up
from tests.support.brokers import RabbitMQ
from tests.support.waiting import eventually_sync

from taskfleet.local.orphans import find_orphans

pytestmark = pytest.mark.timeout(400)
Make = Callable[..., Up]


@pytest.fixture
def make_up(tmp_path: Path) -> Iterator[Make]:
    """Makes a `taskfleet up` that ends with the test."""
    made: list[Up] = []

    def make(*options: str) -> Up:
        made.append(Up(tmp_path, *options))
        return made[-1]

    yield make
    for up in made:
        up.end()
        assert not find_orphans(up.data)


@pytest.fixture
def up(make_up: Make) -> Up:
    """One with the defaults, started."""
    return make_up().start()


def test_workers_come_with_the_first_task_and_go_after_the_last(up: Up) -> None:
    """Also every command and its exit code, on the way."""
    assert up.workers() == 0
    assert up.run("submit", "jobs", "jobs.add", "2", "y=3", "--wait", "--timeout", "90", "-o", "json")
    ids = up.submit("jobs.steps", 24, seconds=1.5)
    eventually_sync(lambda: "-> 3'" in up.log.read_text(), 20)
    up.wait_running(ids[0])
    # The API hears of the workers, and each few seconds of the tasks that they know.
    eventually_sync(lambda: bool(up.workers() and up.get("/queues/jobs/tasks")["items"]), 20)
    up.run("submit", "jobs", "jobs.ad", code=2)  # workers live and do not know it
    done = json.loads(up.run("wait", *ids, "--timeout", "90", "-o", "json"))
    assert [task["state"] for task in done] == ["succeeded"] * 24
    assert all(count == 1 for count in up.runs().values())
    assert up.log.read_text().count("worker_ready") >= 2

    assert json.loads(up.run("get", ids[0], "-o", "json"))["result"] == 5
    events = [json.loads(line) for line in up.run("watch", ids[0], "-o", "json").splitlines()]
    assert events[-1]["state"] == "succeeded"
    assert len(up.run("list", "--queue", "jobs", "-n", "4").splitlines()) == 5
    assert "jobs.steps seconds [count]" in " ".join(up.run("queues", "jobs", "--tasks").split())
    assert "jobs" in up.run("top", "--once")
    assert "slots busy" in up.run("explain", "jobs")
    assert "no problem" in up.run("doctor")
    failed = up.run("submit", "jobs", "jobs.fail").strip()
    up.run("watch", failed, code=1)
    up.run("retry", failed)
    up.run("wait", failed, code=1)
    assert json.loads(up.run("get", failed, "-o", "json"))["attempt"] == 2
    up.run("retry", ids[0], code=6)
    up.run("submit", "jobz", "jobs.add", code=3)
    later = up.run("submit", "jobs", "jobs.add", "1", "2", "--countdown", "3600").strip()
    up.run("wait", later, "--timeout", "0.5", code=5)
    assert "cancelled" in up.run("cancel", later)
    up.run("schedules", "set", "nightly", "jobs", "jobs.add", "1", "2", "--cron", "0 3 * * *")
    assert "nightly" in up.run("schedules")
    up.run("schedules", "delete", "nightly")

    eventually_sync(lambda: up.workers() == 0, 60, 0.2)


def test_ctrl_c_lets_running_tasks_finish_and_stops_everything(up: Up) -> None:
    gate = up.folder / "gate"
    (task,) = up.submit("jobs.wait_for", path=str(gate))
    up.wait_running(task)
    up.signal()
    eventually_sync(lambda: "worker_drains" in up.log.read_text(), 30)
    gate.touch()
    assert up.join() == 0
    assert not find_orphans(up.data)
    up.start()
    assert eventually_sync(lambda: up.state(task) == "succeeded", 30, 0.1)
    assert up.runs()[task] == 1


def test_second_ctrl_c_stops_at_once_and_the_task_runs_again(up: Up) -> None:
    gate = up.folder / "gate"
    (task,) = up.submit("jobs.wait_for", path=str(gate))
    up.wait_running(task)
    up.signal()
    eventually_sync(lambda: "worker_drains" in up.log.read_text(), 30)
    up.signal()
    assert up.join(45) == 0
    gate.touch()
    up.start()
    assert eventually_sync(lambda: up.state(task) == "succeeded", 120, 0.2)
    assert up.runs()[task] == 2


def test_kill_9_loses_nothing_and_leaves_no_orphans(up: Up) -> None:
    ids = up.submit("jobs.steps", 20, seconds=1)
    up.wait_running(ids[0])
    up.kill()
    # What runs ends first, where the system tells it to; the store waits for the next start.
    assert "valkey" in {orphan.kind for orphan in find_orphans(up.data)}
    up.start()
    assert "orphans_found" in up.log.read_text()
    done = json.loads(up.run("wait", *ids, "--timeout", "110", "-o", "json"))
    assert [task["state"] for task in done] == ["succeeded"] * 20
    up.signal(signal.SIGTERM)
    assert up.join() == 0
    assert not find_orphans(up.data)


def test_killed_api_worker_and_store_come_back_and_tasks_end_well(up: Up) -> None:
    gate = up.folder / "gate"
    (task,) = up.submit("jobs.wait_for", path=str(gate))
    up.wait_running(task)
    children = find_orphans(up.data)
    assert {child.kind for child in children} == {"api", "valkey", "worker"}
    for child in children:
        os.killpg(child.pid, signal.SIGKILL)
    gate.touch()
    eventually_sync(lambda: up.log.read_text().count("service=api") >= 3, 90, 0.1)  # ready, ended, ready
    assert eventually_sync(lambda: up.state(task) == "succeeded", 120, 0.2)


def test_changed_file_acts_without_a_restart_and_a_bad_one_is_refused(up: Up) -> None:
    up.write_queue(idle=3600)
    eventually_sync(lambda: "files_loaded" in up.log.read_text(), 20)
    up.file.write_text("kind: TaskQueue\n")
    eventually_sync(lambda: "apiVersion: is required" in up.log.read_text(), 20)
    up.submit("jobs.add", x=1, y=2)
    eventually_sync(lambda: up.workers() == 1, 60, 0.1)


def test_several_queues_share_their_workers(make_up: Make) -> None:
    up = make_up()
    up.write_queue(more="  queues: [{name: jobs}, {name: mail, weight: 2}]\n")
    up.start()
    (task,) = up.run("submit", "mail", "jobs.add", "-f", "-", text='{"kwargs": {"x": 1, "y": 2}}\n').split()
    (other,) = up.submit("jobs.add", x=1, y=2)
    eventually_sync(lambda: [up.state(task), up.state(other)] == ["succeeded", "succeeded"], 90, 0.2)
    assert up.get(f"/tasks/{task}")["queue"] == "mail"
    assert up.get("/queues/mail")["workers"] == up.workers()


def test_port_in_use_is_told_with_the_fix(make_up: Make) -> None:
    up = make_up()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", up.port))
        taken.listen(1)
        command = [sys.executable, "-m", "taskfleet", "up", "-f", str(up.file), "--data", str(up.data)]
        command += ["--port", str(up.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, cwd=up.folder)
    assert done.returncode == 2
    assert f"port {up.port} on 127.0.0.1 is in use" in done.stderr
    assert "--port" in done.stderr


def test_app_that_cannot_be_imported_is_told_with_its_reason(make_up: Make) -> None:
    up = make_up()
    up.file.write_text(up.file.read_text().replace("jobs:app", "shop.celery:app"))
    up.start()
    up.submit("jobs.add", x=1, y=2)
    eventually_sync(lambda: "No module named 'shop'" in up.log.read_text(), 90, 0.1)
    up.write_queue()
    eventually_sync(lambda: up.runs().total() == 1, 90, 0.1)


def test_references_and_flower_are_served_when_asked_for(make_up: Make) -> None:
    import httpx

    up = make_up("--references", "--flower").start()
    assert httpx.get("http://127.0.0.1:5555/healthcheck", timeout=20, trust_env=False).status_code == 200
    paths = httpx.get(f"{up.url}/openapi.json", timeout=20, trust_env=False).json()["paths"]
    assert "/delay" in paths


def test_named_broker_and_database_are_used(make_up: Make, rabbitmq43: RabbitMQ, postgresql_url: str) -> None:
    up = make_up(
        "--broker", rabbitmq43.url, "--broker-management", rabbitmq43.management_url,
        "--broker-metrics", rabbitmq43.metrics_url, "--database", postgresql_url,
    )  # fmt: skip
    up.start()
    ids = up.submit("jobs.steps", 6, seconds=0.5)
    done = json.loads(up.run("wait", *ids, "--timeout", "110", "-o", "json"))
    assert [task["state"] for task in done] == ["succeeded"] * 6
    assert not (up.data / "taskfleet.sqlite3").exists()
    eventually_sync(lambda: up.workers() == 0, 60, 0.2)
