"""kill -9 of each part while tasks are submitted and run: the scenarios, shared by tests and benches.

Every scenario submits until `count` tasks are accepted, kills in the middle, waits for the end and returns the account.
"""

import contextlib
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support.ledger import Account, read_ledger, reconcile
from tests.support.stack import API_PREFIX, QueueOptions, Stack, StackOptions
from tests.support.waiting import eventually_sync

__all__ = ["SCENARIOS", "Scenario", "kill_stack"]

QUEUE = "kill"
SUBMITTERS = 8
REFUSED_PAUSE_SECONDS = 0.2
OPEN_STATES = ["scheduled", "pending", "queued", "running", "retrying"]
# Shorter than the defaults, so that a test takes seconds; the rules are the same.
SETTINGS = {"republish_grace_seconds": "2", "lease_quiet_seconds": "4", "log_level": "info"}


@contextlib.contextmanager
def kill_stack(workers: int = 2) -> Iterator[Stack]:
    """A stack of its own, to be killed: RabbitMQ 4.3, PostgreSQL, Valkey with every write on disk, one API."""
    stack = Stack(StackOptions(environment=SETTINGS))
    try:
        stack.start()
        stack.add_queue(QUEUE, QueueOptions(concurrency=2, delivery_limit=20))
        for _ in range(workers):
            stack.start_worker(QUEUE)
        yield stack
    finally:
        stack.stop()


@dataclass
class Load:
    """Submits tasks from several threads until `count` of them are accepted; refused ones are tried as new tasks."""

    stack: Stack
    count: int
    task_seconds: float = 0.01
    per_second: float = 150.0
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    accepted: list[str] = field(default_factory=list)
    refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _started: int = 0
    _threads: ThreadPoolExecutor | None = None
    _deadline: float = 0.0

    @property
    def ledger(self) -> Path:
        """Where the tasks note their runs."""
        return self.stack.directory / f"ledger-{self.marker}.txt"

    def start(self, timeout_seconds: float = 180) -> "Load":
        """Begin in the background."""
        self._deadline = time.monotonic() + timeout_seconds
        self._threads = ThreadPoolExecutor(SUBMITTERS)
        for _ in range(SUBMITTERS):
            self._threads.submit(self._submit_many)
        return self

    def wait_accepted(self, share: float) -> None:
        """Return once that share of the tasks is accepted."""
        eventually_sync(lambda: len(self.accepted) >= share * self.count, self._deadline - time.monotonic())

    def finish(self) -> None:
        """Return when all are accepted."""
        assert self._threads is not None
        self._threads.shutdown(wait=True)
        assert len(self.accepted) >= self.count, f"{len(self.accepted)} accepted, {self.refused} refused"

    def _submit_many(self) -> None:
        body = {
            "queue": QUEUE,
            "task": "jobs.record",
            "args": [str(self.ledger), self.task_seconds],
            "metadata": {"run": self.marker},
        }
        with httpx.Client(timeout=10, trust_env=False) as client:
            while time.monotonic() < self._deadline and self._take_turn():
                try:
                    answer = client.post(f"{self.stack.base_url}{API_PREFIX}/tasks", json=body)
                    task_id = answer.json()["id"] if answer.status_code == 202 else None
                except (httpx.HTTPError, ValueError):
                    task_id = None
                self._note(task_id)
                if task_id is None:
                    time.sleep(REFUSED_PAUSE_SECONDS)

    def _take_turn(self) -> bool:
        with self._lock:
            if self._started >= self.count:
                return False
            self._started += 1
        time.sleep(SUBMITTERS / self.per_second)
        return True

    def _note(self, task_id: str | None) -> None:
        with self._lock:
            if task_id is None:
                self.refused += 1
                self._started -= 1
            else:
                self.accepted.append(task_id)

    def settle(self, timeout_seconds: float) -> Account:
        """Wait until no task of this load is open, then account for each; what is open at the deadline is lost."""
        with httpx.Client(base_url=self.stack.base_url, timeout=20, trust_env=False) as client:
            with contextlib.suppress(AssertionError):
                eventually_sync(lambda: not self._page(client, OPEN_STATES, 1), timeout_seconds, 0.3)
            records = {}
            cursor = None
            while True:
                page = self._list(client, [], 200, cursor)
                records.update({item["id"]: item for item in page["items"]})
                cursor = page["next_cursor"]
                if cursor is None:
                    break
        return reconcile(self.accepted, records, read_ledger(self.ledger))

    def _page(self, client: httpx.Client, states: list[str], limit: int) -> list[dict]:
        try:
            return self._list(client, states, limit, None)["items"]
        except (httpx.HTTPError, AssertionError, ValueError):
            return [{}]  # unknown is not "nothing open"

    def _list(self, client: httpx.Client, states: list[str], limit: int, cursor: str | None) -> dict:
        params: dict = {"metadata": f"run={self.marker}", "limit": limit, "state": states}
        if cursor:
            params["cursor"] = cursor
        answer = client.get(f"{API_PREFIX}/tasks", params=params)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def kill_api_between_commit_and_publish(stack: Stack, count: int) -> Load:
    """Nothing can be published while the broker is down: what is accepted then has only its record."""
    stack.broker.kill()
    load = Load(stack, count, per_second=400).start()
    load.finish()
    with httpx.Client(base_url=stack.base_url, timeout=20, trust_env=False) as client:
        assert len(load._list(client, ["pending"], 200, None)["items"]) == min(count, 200)
    stack.kill_api()
    with ThreadPoolExecutor(2) as pool:
        for done in (pool.submit(stack.broker.start), pool.submit(stack.start_api)):
            done.result()
    return load


def kill_api_under_load(stack: Stack, count: int) -> Load:
    """The API dies with requests, commits and publishes under way."""
    load = Load(stack, count).start()
    load.wait_accepted(0.3)
    stack.restart_api()
    load.wait_accepted(0.7)
    stack.restart_api()
    load.finish()
    return load


def restart_broker_under_load(stack: Stack, count: int) -> Load:
    """RabbitMQ dies with messages unconfirmed and unacknowledged."""
    load = Load(stack, count).start()
    load.wait_accepted(0.4)
    stack.broker.restart()
    load.finish()
    return load


def kill_worker_mid_task(stack: Stack, count: int) -> Load:
    """Both workers die in turn while each runs two tasks."""
    load = Load(stack, count, task_seconds=0.1, per_second=60).start()
    for share in (0.3, 0.6):
        load.wait_accepted(share)
        victim = stack.workers[0]
        victim.process.kill()
        stack.workers.remove(victim)
        stack.start_worker(QUEUE)
    load.finish()
    return load


def kill_valkey_under_load(stack: Stack, count: int) -> Load:
    """Valkey dies and comes back with its data."""
    load = Load(stack, count).start()
    load.wait_accepted(0.4)
    stack.valkey.kill()
    time.sleep(2)  # the outage itself: workers and API must go on without it
    stack.valkey.start()
    load.finish()
    return load


def kill_database_under_load(stack: Stack, count: int) -> Load:
    """PostgreSQL dies; submissions are refused until it is back."""
    load = Load(stack, count).start()
    load.wait_accepted(0.4)
    stack.database.kill()
    stack.database.start()
    load.finish()
    return load


def flush_valkey_under_load(stack: Stack, count: int) -> Load:
    """Valkey loses everything: results on their way to the records, live states, heartbeats and the registry."""
    load = Load(stack, count, task_seconds=0.02, per_second=250).start()
    load.wait_accepted(0.4)
    # Nobody records while the API stands still: what ends now is only in Valkey.
    stack.api_process().signal(signal.SIGSTOP)
    noted = len(read_ledger(load.ledger))
    with contextlib.suppress(AssertionError):  # all messages may have run already
        eventually_sync(lambda: len(read_ledger(load.ledger)) >= noted + 5, 1)
    stack.valkey.flush()
    stack.api_process().signal(signal.SIGCONT)
    stack.register(QUEUE)
    load.wait_accepted(0.8)
    stack.valkey.flush()
    stack.register(QUEUE)
    load.finish()
    return load


@dataclass(frozen=True)
class Scenario:
    """A named kill; `run` returns the load once everything is up again and all tasks are accepted."""

    name: str
    run: Callable[[Stack, int], Load]


SCENARIOS = [
    Scenario("API killed between commit and publish", kill_api_between_commit_and_publish),
    Scenario("API killed under load", kill_api_under_load),
    Scenario("broker restarted under load", restart_broker_under_load),
    Scenario("workers killed mid-task", kill_worker_mid_task),
    Scenario("Valkey killed under load", kill_valkey_under_load),
    Scenario("PostgreSQL killed under load", kill_database_under_load),
    Scenario("Valkey flushed under load", flush_valkey_under_load),
]
