"""A load that goes on while versions change under it, and what became of each of its tasks."""

import itertools
import threading
import time
from collections import Counter
from typing import Any

import httpx
from tests.support.ledger import Account, read_ledger, reconcile
from tests.support.stack import API_PREFIX, Stack
from tests.support.waiting import eventually_sync

__all__ = ["QUEUE", "UpgradeLoad"]

QUEUE = "upgrade"
PAUSE_SECONDS = 0.02
SETTLE_SECONDS = 60
Json = dict[str, Any]
# At once, delayed, and failed twice before it succeeds: each crosses versions in its own way.
KINDS = ("now", "later", "retried")


class UpgradeLoad:
    """Submits one task after the other to whichever replica answers; a context manager."""

    def __init__(self, stack: Stack) -> None:
        self.replicas: list[int] = [0]
        self.accepted: list[str] = []
        self.refused: list[str] = []
        self.by_kind: Counter[str] = Counter()
        self._stack = stack
        self._ledger = stack.directory / "upgrade-ledger.txt"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "UpgradeLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait_for_more(self, tasks: int = 30, timeout_seconds: float = 60) -> None:
        """Return once so many more were accepted and so many more have run."""
        accepted, ran = len(self.accepted), self._count_runs()
        eventually_sync(
            lambda: len(self.accepted) >= accepted + tasks and self._count_runs() >= ran + tasks, timeout_seconds, 0.1
        )

    def settle(self, replica: int) -> tuple[Account, dict[str, Json]]:
        """Wait for the end of all, read by one replica: the account, and the records."""
        with httpx.Client(base_url=self._stack.url_of(replica) + API_PREFIX, timeout=20, trust_env=False) as client:
            params: Json = {"metadata": "run=upgrade", "limit": 200}
            is_open = {**params, "state": ["scheduled", "pending", "queued", "running", "retrying"]}
            eventually_sync(lambda: not _get(client, is_open)["items"], SETTLE_SECONDS, 0.3)
            records: dict[str, Json] = {}
            while True:
                page = _get(client, params)
                records.update({item["id"]: item for item in page["items"]})
                if page["next_cursor"] is None:
                    return reconcile(self.accepted, records, read_ledger(self._ledger)), records
                params["cursor"] = page["next_cursor"]

    def _count_runs(self) -> int:
        return len(read_ledger(self._ledger))

    def _run(self) -> None:
        with httpx.Client(timeout=10, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)) as client:
            for number, kind in enumerate(itertools.cycle(KINDS)):
                if self._stop.wait(PAUSE_SECONDS):
                    return
                # A balancer's view: any replica that is up; one that leaves is off the list before its SIGTERM.
                replica = self.replicas[number % len(self.replicas)]
                self._submit(client, replica, kind, number)

    def _submit(self, client: httpx.Client, replica: int, kind: str, number: int) -> None:
        body: Json = {
            "queue": QUEUE,
            "task": "jobs.record",
            "args": [str(self._ledger)],
            "metadata": {"run": "upgrade", "kind": kind},
        }
        if kind == "later":
            body["countdown_seconds"] = 3
        if kind == "retried":
            body["retry"] = {"max_attempts": 3, "backoff_seconds": 0.5, "jitter": False}
            body |= {"task": "jobs.record_and_fail_until", "args": [str(self._ledger), 2]}
        try:
            answer = client.post(f"{self._stack.url_of(replica)}{API_PREFIX}/tasks", json=body)
        except httpx.HTTPError as error:
            self.refused.append(f"{time.time():.1f} replica {replica}: {error!r}")
            return
        if answer.status_code == 202:
            self.accepted.append(answer.json()["id"])
            self.by_kind[kind] += 1
        else:
            self.refused.append(f"replica {replica}: {answer.status_code} {answer.text[:200]}")


def _get(client: httpx.Client, params: Json) -> Json:
    answer = client.get("/tasks", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
