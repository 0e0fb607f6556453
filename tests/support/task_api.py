"""A thin caller of the HTTP API for tests: what a user would write with any HTTP client."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.stack import API_PREFIX
from tests.support.waiting import eventually_sync

__all__ = ["FINAL_STATES", "OPEN_STATES", "ServerEvent", "TaskApi"]

# Written out, not taken from the code that is tested.
OPEN_STATES = ("scheduled", "pending", "queued", "running", "retrying")
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "expired", "dead"})
Json = dict[str, Any]


@dataclass(frozen=True)
class ServerEvent:
    """One server-sent event."""

    name: str
    id: str
    data: Json


class TaskApi:
    """Submits, reads and waits over real HTTP."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One call below the API's prefix; any status."""
        return self.http.request(method, API_PREFIX + path, **options)

    def submit(self, queue: str, task: str, *args: Any, headers: dict[str, str] | None = None, **fields: Any) -> Json:
        """Submit and expect 202; `fields` are the other members of the body."""
        body = {"queue": queue, "task": task, "args": list(args), **fields}
        answer = self.request("POST", "/tasks", json=body, headers=headers)
        assert answer.status_code == 202, (answer.status_code, answer.text)
        return dict(answer.json())

    def run(self, queue: str, task: str, *args: Any, wait_seconds: int = 20, **fields: Any) -> Json:
        """Submit and wait for the end in one request."""
        body = {"queue": queue, "task": task, "args": list(args), **fields}
        answer = self.request("POST", "/tasks", json=body, headers={"Prefer": f"wait={wait_seconds}"})
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return dict(answer.json())

    def get(self, task_id: str) -> Json:
        """The task as it is now."""
        answer = self.request("GET", f"/tasks/{task_id}")
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return dict(answer.json())

    def wait(self, task_id: str, *states: str, timeout_seconds: float = 20) -> Json:
        """The task once it is in one of `states` (default: any final one)."""
        wanted = set(states) or FINAL_STATES
        last: Json = {}

        def probe() -> Json | None:
            nonlocal last
            last = self.get(task_id)
            return last if last["state"] in wanted else None

        try:
            return eventually_sync(probe, timeout_seconds, interval_seconds=0.05) or {}
        except AssertionError as error:
            raise AssertionError(f"{task_id} is {last.get('state')}, not one of {sorted(wanted)}: {last}") from error

    @contextmanager
    def events(
        self, task_id: str, *, last_event_id: str | None = None, query: str = "", timeout_seconds: float = 30
    ) -> Iterator[Iterator[ServerEvent]]:
        """The task's server-sent events while the block runs."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        path = f"{API_PREFIX}/tasks/{task_id}/events{query}"
        with self.http.stream("GET", path, headers=headers, timeout=timeout_seconds) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield _parse_events(answer.iter_lines(), time.monotonic() + timeout_seconds)


def _parse_events(lines: Iterator[str], deadline: float) -> Iterator[ServerEvent]:
    fields: dict[str, str] = {}
    for line in lines:
        assert time.monotonic() < deadline, "the stream does not end"
        if not line:
            if "data" in fields:
                yield ServerEvent(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = fields[name] + "\n" + value if name == "data" and name in fields else value
