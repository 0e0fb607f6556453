"""The load under a fault: tasks submitted over HTTP in five ways until told to stop, then accounted for one by one.

A client without an answer asks again with the same idempotency key, so that no record is left of which nobody knows.
"""

import contextlib
import itertools
import threading
import time
import uuid
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.support.ledger import Account, read_ledger, reconcile
from tests.support.stack import API_PREFIX
from tests.support.task_api import OPEN_STATES
from tests.support.waiting import eventually_sync

__all__ = ["QUEUE", "Load"]

QUEUE = "faults"
SUBMITTERS = 8
REFUSED_PAUSE_SECONDS = 0.2
REQUEST_SECONDS = 10
BATCH = 5
MOST_TASKS = 20_000
# One turn of ten each: five single, one batch of five, one delayed, one of each kind of retry, one cancelled.
TURNS = ("single", "single", "delayed", "single", "retried", "batch", "single", "failing", "single", "cancelled")
SUCCEEDED = frozenset({"succeeded"})
CANCELLED = frozenset({"cancelled"})
Json = dict[str, Any]


@dataclass
class Load:
    """Submits from several threads between `start` and `finish`; `account` says what became of each task."""

    url: str  # of the API
    folder: Path  # for the notes of the tasks
    per_second: float = 50.0
    task_seconds: float = 0.01
    deadline_seconds: float = 240.0
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    promises: dict[str, AbstractSet[str]] = field(default_factory=dict)  # accepted task -> how it may end
    refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _submitters: list[Future[None]] = field(default_factory=list)
    _deadline: float = 0.0

    @property
    def ledger(self) -> Path:
        """Where the tasks note their runs."""
        return self.folder / f"ledger-{self.marker}.txt"

    @property
    def accepted(self) -> int:
        """Tasks accepted so far."""
        return len(self.promises)

    def start(self) -> "Load":
        """Begin in the background."""
        self._deadline = time.monotonic() + self.deadline_seconds
        pool = ThreadPoolExecutor(SUBMITTERS)
        turns = itertools.count()
        self._submitters = [pool.submit(self._submit_many, turns) for _ in range(SUBMITTERS)]
        pool.shutdown(wait=False)
        return self

    def wait_accepted(self, more: int) -> None:
        """Return once so many more tasks are accepted."""
        wanted = self.accepted + more

        def is_reached() -> bool:
            for submitter in self._submitters:
                if submitter.done() and (error := submitter.exception()) is not None:
                    raise RuntimeError("the load cannot go on") from error  # not "not yet"
            return self.accepted >= wanted

        eventually_sync(is_reached, self._deadline - time.monotonic())

    def finish(self) -> None:
        """Submit nothing new; returns when each submission under way has its answer."""
        self._stop.set()
        for submitter in self._submitters:
            submitter.result()

    # --- submitting --------------------------------------------------------------------------------------------

    def _submit_many(self, turns: "itertools.count[int]") -> None:
        with httpx.Client(base_url=self.url, timeout=REQUEST_SECONDS, trust_env=False) as client:
            while not self._stop.is_set() and time.monotonic() < self._deadline and self.accepted < MOST_TASKS:
                kind = TURNS[next(turns) % len(TURNS)]
                ids = self._submit(client, kind)
                if kind == "cancelled":
                    self._cancel(client, ids[0])
                self._stop.wait(SUBMITTERS * len(ids) / self.per_second)

    def _submit(self, client: httpx.Client, kind: str, members: Json | None = None) -> list[str]:
        """Ask until accepted."""
        task = {**self._build(kind), **(members or {})}
        body: Any = [task] * BATCH if kind == "batch" else task
        path = f"{API_PREFIX}/tasks" + (":batch" if kind == "batch" else "")
        key = str(uuid.uuid4())
        while True:
            assert time.monotonic() < self._deadline, f"not accepted in time; {self.refused} requests refused"
            answer = self._ask(client, "POST", path, json=body, headers={"Idempotency-Key": key})
            if answer is not None and answer.status_code == 202:
                found = [item["id"] for item in answer.json()["items"]] if kind == "batch" else [answer.json()["id"]]
                with self._lock:
                    self.promises.update(dict.fromkeys(found, SUCCEEDED))
                return found
            assert answer is None or answer.status_code in (429, 500, 503), answer.text
            with self._lock:
                self.refused += 1
            time.sleep(REFUSED_PAUSE_SECONDS)

    def _build(self, kind: str) -> Json:
        name = {"retried": "record_retried", "failing": "record_failing"}.get(kind, "record")
        task: Json = {
            "queue": QUEUE,
            "task": f"jobs.{name}",
            "args": [str(self.ledger), self.task_seconds],
            "metadata": {"run": self.marker},
        }
        if kind == "failing":
            task["retry"] = {"max_attempts": 20, "backoff_seconds": 0.3}
        if kind in ("delayed", "cancelled"):
            task["countdown_seconds"] = 1.5 if kind == "delayed" else 4
        return task

    def submit_hungry(self, mebibytes: int) -> None:
        """One more task, which takes so much memory until it is delivered again."""
        with httpx.Client(base_url=self.url, timeout=REQUEST_SECONDS, trust_env=False) as client:
            self._submit(client, "hungry", {"task": "jobs.record_hungry", "args": [str(self.ledger), mebibytes]})

    def _cancel(self, client: httpx.Client, task_id: str) -> None:
        """Take it back while it waits. Told so, it must end cancelled; otherwise it may end either way."""
        self.promises[task_id] = SUCCEEDED | CANCELLED
        answer = self._ask(client, "DELETE", f"{API_PREFIX}/tasks/{task_id}")
        if answer is not None and answer.status_code == 200:
            self.promises[task_id] = CANCELLED

    @staticmethod
    def _ask(client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response | None:
        """The answer, None without one."""
        try:
            return client.request(method, path, **options)
        except httpx.HTTPError:
            return None

    # --- afterwards --------------------------------------------------------------------------------------------

    def account(self, timeout_seconds: float) -> Account:
        """Wait until no task is open, then account for each; what is open at the deadline is lost."""
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
            with contextlib.suppress(AssertionError):
                eventually_sync(lambda: not self.fetch(client, OPEN_STATES, 1), timeout_seconds, 0.3)
            records = eventually_sync(lambda: self.fetch_all(client), 30, 0.5)
        return reconcile(self.promises, records, read_ledger(self.ledger), self.promises)

    def fetch(self, client: httpx.Client, states: Sequence[str], limit: int) -> list[Json]:
        """The newest records of this load in these states; what cannot be read is not "none"."""
        try:
            return list(self._list(client, states, limit, None)["items"])
        except (httpx.HTTPError, AssertionError, ValueError):
            return [{}]

    def fetch_all(self, client: httpx.Client) -> dict[str, Json] | None:
        """Every record of this load by id; None while they cannot be read."""
        records: dict[str, Json] = {}
        cursor = None
        try:
            while True:
                page = self._list(client, [], 200, cursor)
                records.update({item["id"]: item for item in page["items"]})
                cursor = page["next_cursor"]
                if cursor is None:
                    return records
        except (httpx.HTTPError, AssertionError, ValueError):
            return None

    def _list(self, client: httpx.Client, states: Sequence[str], limit: int, cursor: str | None) -> Json:
        params: Json = {"metadata": f"run={self.marker}", "limit": limit, "state": states}
        if cursor:
            params["cursor"] = cursor
        answer = client.get(f"{API_PREFIX}/tasks", params=params)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())
