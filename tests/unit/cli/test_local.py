"""The parts of local mode with real but tiny processes: children, orphans, ports, worker pools, decisions, view."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.support.waiting import eventually, eventually_sync

from taskfleet.local.addresses import describe_address
from taskfleet.local.controlling import Completions, QueueController, build_observation
from taskfleet.local.files import FileWatch, find_files, load_queues
from taskfleet.local.journal import Journal
from taskfleet.local.limiting import limit_workers
from taskfleet.local.options import UpOptions
from taskfleet.local.orphans import find_orphans, stop_orphans
from taskfleet.local.ports import check_port, find_free_port
from taskfleet.local.processes import Child, read_failure, start_child
from taskfleet.local.view import build_entry
from taskfleet.local.workers import WorkerPool
from taskfleet_core.errors import InvalidInputError
from taskfleet_core.events import Heartbeat, QueueRegistration
from taskfleet_core.registrations import build_registrations
from taskfleet_core.scaling import Cause, Decision, ScalingSpec
from taskfleet_core.statistics import QueueStatistics
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_core.topology import build_queue_specs

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]
BROKEN = [sys.executable, "-c", "print('starting'); raise ModuleNotFoundError('No module named shop')"]
DOCUMENT = {
    "apiVersion": "taskfleet.dev/v1alpha1",
    "kind": "TaskQueue",
    "metadata": {"name": "q"},
    "spec": {"worker": {"app": "a:b", "concurrency": 2}, "scaling": {"maxReplicas": 5}},
}
Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts children whose data folder is the test's own; none outlives the test."""
    children: list[Child] = []

    def begin(command: list[str] = SLEEP, name: str = "one", kind: str = "worker") -> Child:
        children.append(start_child(kind, name, command, data=tmp_path, log=tmp_path / f"{name}.log"))
        return children[-1]

    yield begin
    for child in children:
        child.kill()
        child.popen.wait(10)


def beat(host: str, *, busy: int = 0, completed: int = 0, seconds: float = 0.0) -> Heartbeat:
    """A heartbeat of a worker of two slots."""
    return {
        "schema": 1, "queue": "q", "host": host, "pid": 1, "pool": "prefork", "slots": 2, "busy": busy,
        "tasks": [f"t{n}" for n in range(busy)], "consuming": True, "started_at": 0.0, "at": 0.0,
        "completed": completed, "failed": 0, "runtime_seconds_sum": seconds, "celery": "5.7.0", "python": "3.13.0",
    }  # fmt: skip


def pool_of(start: Start, command: list[str] = SLEEP, grace_seconds: float = 30) -> WorkerPool:
    """A pool whose workers run the command."""
    return WorkerPool("q", lambda host: start(command, host), Journal(plain=False), grace_seconds=grace_seconds)


def statistics(ready: int, unacknowledged: int | None = 0) -> QueueStatistics:
    """Figures of a broker that counts nothing."""
    return QueueStatistics(ready, unacknowledged, None, None, None, 0.0)


# --- processes ---------------------------------------------------------------------------------------------------


async def test_child_stops_on_request_and_a_stubborn_one_is_killed(start: Start, tmp_path: Path) -> None:
    assert await start().stop(10) == -signal.SIGTERM
    stubborn = start(STUBBORN, "two")
    await eventually(lambda: "up" in (tmp_path / "two.log").read_text())
    assert await stubborn.stop(0.1) == -signal.SIGKILL


async def test_orphans_of_the_same_data_folder_are_found_and_stopped(start: Start, tmp_path: Path) -> None:
    mine, stubborn = start(kind="worker"), start(STUBBORN, "two", kind="api")
    other = start_child("worker", "other", SLEEP, data=tmp_path / "elsewhere", log=tmp_path / "other.log")
    try:
        found = await eventually(lambda: [o for o in find_orphans(tmp_path) if True])
        assert {(orphan.pid, orphan.kind) for orphan in found} == {(mine.pid, "worker"), (stubborn.pid, "api")}
        await stop_orphans(found, ("worker", "api"), 0.3)
        assert mine.popen.wait(5) is not None
        assert stubborn.popen.wait(5) is not None
        assert other.exit_code is None
        assert find_orphans(tmp_path) == []
    finally:
        other.kill()
        other.popen.wait(10)


async def test_a_stranger_is_no_orphan(start: Start, tmp_path: Path) -> None:
    """Neither what a child started for itself, nor who was given the id of one that is gone."""
    daemon = "import subprocess as s; d = s.Popen(['sleep', '60'], start_new_session=True); print(d.pid, flush=True)"
    child = start([sys.executable, "-c", daemon], kind="worker")
    assert child.popen.wait(20) == 0
    pid = int((tmp_path / "one.log").read_text())
    try:
        gone = tmp_path / "processes" / f"{child.pid}.json"
        stranger = gone.rename(gone.with_stem(str(pid)))
        assert find_orphans(tmp_path) == []
        assert not stranger.exists()
        assert os.getpgid(pid) == pid
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_a_child_that_has_ended_is_forgotten(start: Start, tmp_path: Path) -> None:
    child = start(kind="worker")
    assert [orphan.pid for orphan in find_orphans(tmp_path)] == [child.pid]
    await child.stop(10)
    assert list((tmp_path / "processes").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="a service of Linux")
def test_children_end_by_themselves_when_they_are_left_alone_but_not_the_store(tmp_path: Path) -> None:
    script = "import sys, time; from pathlib import Path; from taskfleet.local.processes import start_child\n"
    script += "for kind in ('worker', 'valkey'): start_child(kind, kind, ['sleep', '60'], data=Path(sys.argv[1]), "
    script += "log=Path(sys.argv[1]) / 'log')\nprint('started', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        assert {orphan.kind for orphan in find_orphans(tmp_path)} == {"worker", "valkey"}
        parent.kill()
    eventually_sync(lambda: [orphan.kind for orphan in find_orphans(tmp_path)] == ["valkey"])
    (left,) = find_orphans(tmp_path)
    os.kill(left.pid, signal.SIGKILL)


def test_failure_is_read_from_the_newest_part_of_the_log(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    log.write_text("ValueError: of an earlier run\n")
    child = start(BROKEN)
    child.popen.wait(20)
    assert child.read_failure() == "ModuleNotFoundError: No module named shop"
    assert read_failure(tmp_path / "none.log") == ""


# --- ports and files ---------------------------------------------------------------------------------------------


def test_port_in_use_names_the_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInputError, match=f"port {port} on 127.0.0.1 is in use: .* another with --port"):
            check_port("127.0.0.1", port, "--port")
        assert find_free_port(port) != port
    check_port("127.0.0.1", port, "--port")
    assert find_free_port(port) == port


def test_files_are_those_named_those_in_folders_or_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_files(()) == []
    for name in ("b.yaml", "a.yml", "taskqueue.yaml", "note.txt"):
        (tmp_path / name).touch()
    assert find_files(()) == [Path("taskqueue.yaml")]
    assert [path.name for path in find_files([tmp_path, tmp_path / "b.yaml"])] == ["a.yml", "b.yaml", "taskqueue.yaml"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="holds no YAML file"):
        find_files([tmp_path / "empty"])


def test_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    text = """
apiVersion: taskfleet.dev/v1alpha1
kind: TaskQueue
metadata: {name: NAME, annotations: {taskfleet.dev/directory: FOLDER}}
spec: {worker: {app: "a:b"}}
"""
    (tmp_path / "1.yaml").write_text(text.replace("NAME", "q").replace("FOLDER", "."))
    (tmp_path / "2.yaml").write_text(text.replace("NAME", "q").replace("FOLDER", "nowhere"))
    (tmp_path / "3.yaml").write_text("a: [")
    with pytest.raises(InvalidInputError) as caught:
        load_queues(sorted(tmp_path.glob("*.yaml")))
    told = str(caught.value)
    assert "2.yaml: metadata.annotations[taskfleet.dev/directory]" in told
    assert "2.yaml: metadata.name: 'q' is taken by" in told
    assert "3.yaml:1: is no valid YAML" in told


def test_changed_file_is_noticed_once(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.touch()
    watch = FileWatch([tmp_path])
    assert not watch.has_changed()
    os.utime(file, (1, 1))
    assert watch.has_changed()
    assert not watch.has_changed()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://user:secret@rabbit:5673/vhost", "RabbitMQ rabbit:5673"),
        ("redis://:secret@127.0.0.1:6379/0", "Valkey/Redis 127.0.0.1:6379"),
        ("postgresql://u:secret@db/taskfleet", "PostgreSQL db"),
        ("mysql+aiomysql://u:secret@db:3306/x", "MySQL db:3306"),
        ("sqlite:////var/lib/t.sqlite3", "SQLite /var/lib/t.sqlite3"),
        ("amqp://u:secret@h:port", "RabbitMQ (unreadable address)"),
    ],
)
def test_addresses_are_shown_without_credentials(url: str, expected: str) -> None:
    assert describe_address(url) == expected


# --- workers -----------------------------------------------------------------------------------------------------


def test_pool_starts_what_is_missing_and_drains_idle_workers_first(start: Start) -> None:
    pool = pool_of(start)
    pool.scale(3)
    hosts = [worker.host for worker in pool.workers]
    pool.observe({host: beat(host, busy=busy) for host, busy in zip(hosts, (2, 0, 1), strict=True)})
    assert len(pool.ready) == 3
    pool.scale(2)
    assert [worker.host for worker in pool.draining] == [hosts[1]]
    pool.scale(1)
    assert {worker.host for worker in pool.draining} == {hosts[1], hosts[2]}
    eventually_sync(lambda: [pool.observe(None), len(pool.workers) == 1][1])
    assert pool.problem is None


def test_starting_workers_leave_before_idle_ones(start: Start) -> None:
    pool = pool_of(start)
    pool.scale(1)
    pool.observe({pool.workers[0].host: beat(pool.workers[0].host)})
    pool.scale(2)
    pool.scale(1)
    assert [worker.ready_at for worker in pool.draining] == [None]


def test_worker_that_outlives_its_grace_period_is_killed(start: Start, tmp_path: Path) -> None:
    pool = pool_of(start, STUBBORN, grace_seconds=0)
    pool.scale(1)
    host = pool.workers[0].host
    eventually_sync(lambda: "up" in (tmp_path / f"{host}.log").read_text())
    pool.scale(0)
    eventually_sync(lambda: [pool.observe(None), not pool.workers][1])
    assert "worker_killed" in [entry.event for entry in pool._journal.entries]


def test_workers_that_die_at_start_are_tried_again_with_a_growing_pause(start: Start) -> None:
    pool = pool_of(start, BROKEN)
    pool.scale(3)
    eventually_sync(lambda: [pool.observe({}), not pool.workers][1], 30)
    assert pool.problem == "ModuleNotFoundError: No module named shop"
    assert 3 < pool.pause_seconds <= 4  # three failures: 1, 2, 4 s
    pool.scale(3)
    assert not pool.workers
    pool._next_start_at = time.monotonic()
    pool.scale(3)
    assert len(pool.workers) == 1


def test_program_that_does_not_exist_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    pool = pool_of(lambda command, host: start_child("worker", host, ["/nowhere"], data=tmp_path, log=tmp_path / "l"))
    pool.scale(1)
    assert pool.problem is not None
    assert "cannot be started" in pool.problem
    assert pool.pause_seconds > 0


# --- observing and deciding --------------------------------------------------------------------------------------


def test_completions_count_on_over_workers_that_come_and_go() -> None:
    total = Completions()
    total.add({"a": beat("a", completed=5, seconds=10.0)})
    total.add({"a": beat("a", completed=7, seconds=12.0), "b": beat("b", completed=1, seconds=1.0)})
    total.add({"b": beat("b", completed=4, seconds=2.0)})
    assert (total.count, total.run_seconds) == (11, 14.0)


def test_what_cannot_be_read_is_unknown_and_never_zero(start: Start) -> None:
    pool, total = pool_of(start), Completions()
    blind = build_observation(0.0, None, pool, None, total, woken=False)
    assert (blind.ready, blind.unacknowledged, blind.busy_slots, blind.idle_replicas) == (None, None, None, None)
    partly = build_observation(0.0, statistics(3, None), pool, {"a": beat("a", busy=2)}, total, woken=False)
    assert (partly.ready, partly.unacknowledged) == (3, 2)
    assert build_observation(0.0, statistics(3, None), pool, None, total, woken=False).unacknowledged is None


def step(controller: QueueController, figures: QueueStatistics | None, beats: Any, spec: ScalingSpec) -> Decision:
    """Decide and carry it out."""
    decision = controller.decide(figures, beats, spec)
    controller.apply(decision)
    return decision


def test_wake_counts_as_a_waiting_task_until_the_broker_shows_it(start: Start) -> None:
    queue = TaskQueue.model_validate(DOCUMENT)
    controller = QueueController(queue, pool_of(start), Journal(plain=False))
    spec = queue.build_scaling_spec()
    assert step(controller, statistics(0), {}, spec).replicas == 0
    controller.wake()
    assert step(controller, statistics(0), {}, spec).replicas == 1
    assert len(controller.pool.workers) == 1


@pytest.mark.parametrize("mode", ["DryRun", "External"])
def test_other_modes_decide_and_start_nothing(start: Start, mode: str) -> None:
    spec: dict[str, Any] = {"worker": {"app": "a:b"}, "scaling": {"mode": mode}}
    queue = TaskQueue.model_validate(DOCUMENT | {"spec": spec})
    controller = QueueController(queue, pool_of(start), Journal(plain=False))
    assert step(controller, statistics(9), {}, queue.build_scaling_spec()).replicas > 0
    assert not controller.pool.workers


def test_changed_worker_replaces_the_present_ones_and_changed_bounds_do_not(start: Start) -> None:
    queue = TaskQueue.model_validate(DOCUMENT)
    controller = QueueController(queue, pool_of(start), Journal(plain=False))
    step(controller, statistics(9), {}, queue.build_scaling_spec())
    present = len(controller.pool.staying)
    bounds = TaskQueue.model_validate(DOCUMENT | {"spec": DOCUMENT["spec"] | {"scaling": {"maxReplicas": 9}}})  # type: ignore[operator]
    controller.replace_queue(bounds, controller.pool._start)
    assert len(controller.pool.staying) == present > 0
    app = TaskQueue.model_validate(DOCUMENT | {"spec": {"worker": {"app": "a:c"}}})
    controller.replace_queue(app, controller.pool._start)
    assert not controller.pool.staying


def test_unknown_figures_hold_the_workers(start: Start) -> None:
    queue = TaskQueue.model_validate(DOCUMENT)
    controller = QueueController(queue, pool_of(start), Journal(plain=False))
    before = step(controller, statistics(4), {}, queue.build_scaling_spec()).replicas
    decision = step(controller, None, None, queue.build_scaling_spec())
    assert (decision.replicas, decision.cause) == (before, Cause.UNKNOWN)


def test_all_queues_share_the_workers_that_the_option_allows(start: Start) -> None:
    """Evenly; those that run or leave count, and the decision says why."""

    def build(name: str) -> QueueController:
        queue = TaskQueue.model_validate(DOCUMENT | {"metadata": {"name": name}})
        return QueueController(queue, pool_of(start), Journal(plain=False))

    controllers = {name: build(name) for name in ("flood", "mail")}
    spec = controllers["flood"].queue.build_scaling_spec()

    def decide(flood: int, mail: int) -> dict[str, Decision]:
        wishes = {"flood": statistics(flood), "mail": statistics(mail)}
        decisions = {name: each.decide(wishes[name], {}, spec) for name, each in controllers.items()}
        return limit_workers(4, controllers, decisions)

    alone = decide(1000, 0)
    assert {name: each.replicas for name, each in alone.items()} == {"flood": 4, "mail": 0}
    assert alone["flood"].cause is Cause.FLEET
    assert alone["flood"].reason.startswith("--max-workers 4 allows 4 of 5 workers: all queues hold 0; the rule says:")
    controllers["flood"].apply(alone["flood"])
    both = decide(1000, 1000)
    assert {name: each.replicas for name, each in both.items()} == {"flood": 2, "mail": 0}
    controllers["flood"].pool.kill_all()
    eventually_sync(lambda: controllers["flood"].pool.observe({}) or not controllers["flood"].pool.workers, 20)
    assert {name: each.replicas for name, each in decide(1000, 1000).items()} == {"flood": 2, "mail": 2}


# --- registry and view -------------------------------------------------------------------------------------------


def test_registration_has_every_field_that_readers_expect() -> None:
    queue = TaskQueue.model_validate(DOCUMENT)
    (registration,) = build_registrations(queue, 1.0, source="local")
    assert set(registration) == QueueRegistration.__required_keys__
    assert registration["limits"]["maxReplicas"] == 5


def test_broker_waits_longer_for_an_acknowledgement_than_a_task_may_run() -> None:
    (spec,) = build_queue_specs(TaskQueue.model_validate(DOCUMENT))
    assert spec.consumer_timeout_seconds is not None
    assert spec.consumer_timeout_seconds > 3600


def test_journal_writes_plain_lines_and_the_view_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(plain=True)
    journal.warning("worker_died", queue="q", reason="[bold]no markup[/]")
    assert "worker_died" in capsys.readouterr().out
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as captured:
        console.print(build_entry(journal.entries[0]))
    assert "q  worker died  reason [bold]no markup[/]" in captured.get()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "::"])
def test_an_api_that_others_reach_wants_a_key_or_a_word(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="TASKFLEET_API_ADMIN_KEY"):
        UpOptions(host=host).check()
    UpOptions(host=host, has_no_auth=True).check()
    monkeypatch.setenv("TASKFLEET_API_AUTH_MODE", "apiKey")
    UpOptions(host=host).check()
