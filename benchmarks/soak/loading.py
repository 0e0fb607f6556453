"""A steady load at a fixed rate, in small batches, whose tasks note that they ran."""

import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from tests.support.ledger import read_ledger
from tests.support.stack import API_PREFIX, Stack
from tests.support.waiting import eventually_sync

__all__ = ["QUEUE", "SteadyLoad", "measure_capacity"]

QUEUE = "soak"
BATCH = 20
CAPACITY_TASKS = 4_000


@dataclass
class SteadyLoad:
    """Submits `per_second` tasks a second until told to stop; refused batches are asked for again by their key."""

    stack: Stack
    per_second: float
    accepted: list[str] = field(default_factory=list)
    refused: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def ledger(self) -> Path:
        """Where tasks note that they ran."""
        return self.stack.directory / "soak-ledger.txt"

    def __enter__(self) -> "SteadyLoad":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(60)

    def find_not_run(self) -> set[str]:
        """Accepted tasks whose body never began."""
        return set(self.accepted) - {run.id for run in read_ledger(self.ledger)}

    def _run(self) -> None:
        begun, sent = time.monotonic(), 0
        item = {"queue": QUEUE, "task": "jobs.record", "args": [str(self.ledger)]}
        with httpx.Client(base_url=self.stack.base_url, timeout=10, trust_env=False) as client:
            while not self._stop.wait(max(0.0, begun + sent / self.per_second - time.monotonic())):
                self._submit(client, [item] * BATCH)
                # What could not be sent during an outage is not made up for: the rate stays what it is.
                sent = max(sent + BATCH, int((time.monotonic() - begun - 1) * self.per_second))

    def _submit(self, client: httpx.Client, items: list[dict]) -> None:
        key = str(uuid.uuid4())
        while not self._stop.is_set():
            try:
                answer = client.post(f"{API_PREFIX}/tasks:batch", json=items, headers={"Idempotency-Key": key})
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 202:
                self.accepted += [entry["id"] for entry in answer.json()["items"]]
                return
            self.refused += 1
            self._stop.wait(0.5)


def measure_capacity(stack: Stack) -> float:
    """Tasks a second through the whole installation, from the first submission to the last record of success."""
    item = {"queue": QUEUE, "task": "jobs.record", "args": [str(stack.directory / "capacity.txt")]}
    begun = time.monotonic()
    with httpx.Client(base_url=stack.base_url + API_PREFIX, timeout=60, trust_env=False) as client:
        for _ in range(4):
            assert client.post("/tasks:batch", json=[item] * (CAPACITY_TASKS // 4)).status_code == 202

        def is_done() -> bool:
            answer = client.get("/tasks", params={"limit": 1, "state": ["pending", "queued", "running"]})
            return answer.status_code == 200 and not answer.json()["items"]

        eventually_sync(is_done, 300, 0.3)
    return CAPACITY_TASKS / (time.monotonic() - begun)
