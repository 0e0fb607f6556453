"""Strikes that end processes: kill -9, a stop signal, the kernel's memory killer."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
from tests.faults.generator import QUEUE
from tests.faults.servers import fetch_leader
from tests.faults.striking import Field
from tests.support.brokers import RabbitMQ
from tests.support.ledger import read_ledger
from tests.support.stack import Worker
from tests.support.waiting import eventually_sync

__all__ = [
    "fill_disk",
    "find_busy",
    "flush_valkey",
    "kill_api",
    "kill_api_before_publish",
    "kill_broker",
    "kill_database",
    "kill_follower",
    "kill_leader",
    "kill_valkey",
    "kill_worker",
    "kill_worker_child",
    "kill_worker_parent",
    "slow_down",
    "starve_worker",
    "stop_api",
    "stop_broker",
    "stop_database",
    "stop_follower",
    "stop_leader",
    "stop_valkey",
    "stop_worker",
    "stop_worker_child",
]

BETWEEN_TASKS = 50  # accepted with the broker down, before the API dies
WORKER_MEBIBYTES = 400
HUNGRY_MEBIBYTES = 1024


# --- API -------------------------------------------------------------------------------------------------------------


def kill_api_before_publish(field: Field) -> None:
    """Nothing can be published while the broker is down: what is accepted then has only its record."""
    stack, load = field.stack, field.load
    stack.broker.kill()
    load.wait_accepted(BETWEEN_TASKS)
    with httpx.Client(base_url=stack.submit_url, timeout=20, trust_env=False) as client:
        pending = eventually_sync(lambda: load.fetch(client, ["pending"], 200))
    assert len(pending) >= BETWEEN_TASKS // 2, "nothing was caught between commit and publish"
    stack.kill_api()
    field.lift()
    with ThreadPoolExecutor(2) as pool:
        for started in (pool.submit(stack.broker.start), pool.submit(stack.start_api)):
            started.result()


def kill_api(field: Field) -> None:
    """With requests, commits and publishes under way."""
    field.stack.kill_api()
    field.lift()
    field.stack.start_api()


def stop_api(field: Field) -> None:
    """SIGTERM, as in a rollout."""
    assert field.stack.stop_api() == 0
    field.lift()
    field.stack.start_api()


# --- workers ---------------------------------------------------------------------------------------------------------


def find_busy(field: Field) -> Worker:
    """A worker that runs a task at this moment."""

    def find() -> Worker | None:
        running = {run.pid for run in read_ledger(field.load.ledger) if run.ending == "interrupted"}
        return next((w for w in field.stack.workers if running & set(field.stack.children_of(w))), None)

    return eventually_sync(find, 30, 0.005)


def slow_down(field: Field) -> None:
    """Tasks long enough to be met half way."""
    field.load.task_seconds = 0.15
    field.load.wait_accepted(20)


def kill_worker(field: Field) -> None:
    """Parent and children at once, as when a pod's node dies."""
    slow_down(field)
    worker = find_busy(field)
    worker.process.kill()
    field.lift()
    field.stack.replace_worker(worker)


def kill_worker_parent(field: Field) -> None:
    """Only the parent: its children are left alone with their tasks."""
    slow_down(field)
    worker = find_busy(field)
    children = field.stack.children_of(worker)
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.popen.wait(20)
    field.lift()
    eventually_sync(lambda: not any(_lives(pid) for pid in children), 30)  # nobody's child works on for ever
    field.stack.replace_worker(worker)


def kill_worker_child(field: Field) -> None:
    """The process that runs a task; its parent starts another one."""
    _end_children(field, signal.SIGKILL)


def stop_worker_child(field: Field) -> None:
    """SIGTERM to the process that runs a task."""
    _end_children(field, signal.SIGTERM)


def _end_children(field: Field, number: signal.Signals) -> None:
    slow_down(field)

    def strike() -> bool:
        running = {run.pid for run in read_ledger(field.load.ledger) if run.ending == "interrupted"}
        present = [pid for worker in field.stack.workers for pid in field.stack.children_of(worker) if pid in running]
        for pid in present[:1]:
            os.kill(pid, number)
        return bool(present)

    for _ in range(3):
        eventually_sync(strike, 30, 0.005)
    field.lift()


def stop_worker(field: Field) -> None:
    """SIGTERM in the middle of tasks."""
    slow_down(field)
    worker = find_busy(field)
    assert worker.process.terminate(40) == 0
    field.lift()
    field.stack.replace_worker(worker)


def starve_worker(field: Field) -> None:
    """A task takes more memory than its worker may have."""
    for worker in field.stack.workers:
        field.stack.limit_memory(worker, WORKER_MEBIBYTES)
    before = {pid for worker in field.stack.workers for pid in field.stack.children_of(worker)}
    field.load.submit_hungry(HUNGRY_MEBIBYTES)
    eventually_sync(lambda: any(not _lives(pid) for pid in before), 60)
    field.lift()
    for worker in list(field.stack.workers):
        if not worker.process.is_running:
            field.stack.replace_worker(worker)


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


# --- servers ---------------------------------------------------------------------------------------------------------


def kill_broker(field: Field) -> None:
    """With messages unconfirmed and unacknowledged."""
    field.stack.broker.kill()
    field.last()
    field.lift()
    field.stack.broker.start()


def stop_broker(field: Field) -> None:
    """SIGTERM, as a pod's end does."""
    field.stack.broker.terminate()
    field.lift()
    field.stack.broker.start()


def kill_leader(field: Field) -> None:
    """The node of three that leads the queue."""
    _end_node(field, fetch_leader(field.stack.nodes, QUEUE), RabbitMQ.kill)


def kill_follower(field: Field) -> None:
    """A node of three that follows."""
    _end_node(field, _find_follower(field), RabbitMQ.kill)


def stop_leader(field: Field) -> None:
    """SIGTERM to the node that leads the queue."""
    _end_node(field, fetch_leader(field.stack.nodes, QUEUE), RabbitMQ.terminate)


def stop_follower(field: Field) -> None:
    """SIGTERM to a node that follows."""
    _end_node(field, _find_follower(field), RabbitMQ.terminate)


def _find_follower(field: Field) -> RabbitMQ:
    leader = fetch_leader(field.stack.nodes, QUEUE)
    return next(node for node in field.stack.nodes if node is not leader)


def _end_node(field: Field, node: RabbitMQ, end: Callable[[RabbitMQ], None]) -> None:
    end(node)
    field.lift()  # two of three are a majority: nothing waits for the third
    field.last()
    node.start()


def kill_valkey(field: Field) -> None:
    """Without its append-only file it comes back empty."""
    field.stack.valkey.kill()
    field.last()
    field.lift()
    field.stack.valkey.start()
    if not field.stack.valkey.appendonly:
        field.stack.register(QUEUE)  # as the operator and local mode do once they see it missing


def stop_valkey(field: Field) -> None:
    """SIGTERM, as a pod's end does."""
    field.stack.valkey.terminate()
    field.last()
    field.lift()
    field.stack.valkey.start()


def flush_valkey(field: Field) -> None:
    """Loses everything: results on their way to the records, live states, heartbeats and the registry."""
    stack, load = field.stack, field.load
    # Nobody records while the API stands still: what ends now is only in Valkey.
    stack.api_process().signal(signal.SIGSTOP)
    ended = len(read_ledger(load.ledger))
    with contextlib.suppress(AssertionError):  # all messages may have run already
        eventually_sync(lambda: len(read_ledger(load.ledger)) >= ended + 5, 1)
    stack.valkey.flush()
    stack.api_process().signal(signal.SIGCONT)
    field.lift()
    stack.register(QUEUE)


def kill_database(field: Field) -> None:
    """Submissions are refused until it is back."""
    field.stack.database.kill()
    field.last()
    field.lift()
    field.stack.database.start()


def stop_database(field: Field) -> None:
    """Its fast shutdown, which ends all connections in order."""
    database = field.stack.database
    postmaster = int((database.data / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGINT)
    eventually_sync(lambda: not database.is_running, 30)
    field.last()
    field.lift()
    database.start()


def fill_disk(field: Field) -> None:
    """The disk under the database is full until somebody makes room; PostgreSQL ends when its log cannot grow."""
    database = field.stack.database
    database.fill()
    begun, deadline = field.load.refused, time.monotonic() + 60
    # Its present log segment is written on until its end: only then does it feel the disk.
    while field.load.refused == begun and time.monotonic() < deadline:
        with contextlib.suppress(RuntimeError):
            database.execute("SELECT pg_switch_wal()")
    assert field.load.refused > begun, "the full disk was not felt"
    field.last(5)
    database.free()
    field.lift()
    if not database.is_running:
        database.start()
