"""Every operation over real HTTPS with no, a wrong, an expired, another tenant's and a reading credential."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.support.hardened import ADMIN_KEY, HardenedStack
from tests.support.stack import API_PREFIX
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.timeout(90, func_only=True)

BODY = {"queue": "jobs", "task": "jobs.add", "args": [1, 2]}
LISTING_STREAM = f"{API_PREFIX}/tasks:stream"
SCHEDULE = {"queue": "jobs", "task": "jobs.add", "interval_seconds": 86_400}
# Open by intent: probes and metrics are for the cluster, the descriptions hold nothing of anybody.
OPEN = {"/livez", "/readyz", "/healthz", "/metrics", "/docs", "/openapi.json", "/version"}


@pytest.fixture(scope="module")
def site(hardened: HardenedStack) -> Iterator["Site"]:
    with httpx.Client(base_url=hardened.base_url, verify=hardened.context, trust_env=False, timeout=20) as client:
        yield Site(client)


class Site:
    """The API with a task and a schedule of queue `jobs`, and a key of each kind."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
        answer = client.post(f"{API_PREFIX}/tasks", json=BODY | {"countdown_seconds": 3600}, headers=self.admin)
        self.task = answer.json()["id"]
        client.put(f"{API_PREFIX}/schedules/theirs", json=SCHEDULE, headers=self.admin).raise_for_status()
        soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        all_scopes = ["submit", "read", "cancel", "admin"]
        self.keys = {
            "none": {},
            "wrong": {"Authorization": "Bearer wrong-horse-battery-staple"},
            "malformed": {"Authorization": "Basic YWRtaW46YWRtaW4="},
            "foreign": self._make("foreign", all_scopes, queues=["other-*"]),
            "reading": self._make("reading", ["read"]),
            "expired": self._make("expired", ["admin"], expires_at=soon),
        }
        eventually_sync(self._has_ended, 20, interval_seconds=0.2)
        document = client.get("/openapi.json").json()
        self.operations = [
            (method.upper(), self._fill(path))
            for path, found in document["paths"].items()
            for method in found
            if path not in OPEN
        ]

    def ask(self, method: str, path: str, key: str) -> httpx.Response:
        """One call with a key, with a body that would be good."""
        body: Any = None
        if method in ("POST", "PUT"):
            body = SCHEDULE if "schedules" in path else [BODY] if path.endswith(":batch") else BODY
        headers = {**self.keys[key], "Prefer": "wait=0"}
        with self.client.stream(method, path, json=body, headers=headers) as answer:
            if "event-stream" not in answer.headers.get("content-type", ""):
                answer.read()
            return answer

    def read_first_page(self, path: str, key: str) -> list[Any]:
        """What the stream of a listing begins with; it has no end."""
        with self.client.stream("GET", path, headers=self.keys[key]) as answer:
            data = next(line for line in answer.iter_lines() if line.startswith("data: "))
        items: list[Any] = json.loads(data.removeprefix("data: "))["items"]
        return items

    def read_state(self) -> tuple[str, int]:
        """State of the task, and how many tasks there are."""
        task = self.client.get(f"{API_PREFIX}/tasks/{self.task}", headers=self.admin).json()
        schedule = self.client.get(f"{API_PREFIX}/schedules/theirs", headers=self.admin).json()
        return task["state"], schedule["interval_seconds"]

    def _fill(self, path: str) -> str:
        for name, value in {"{task_id}": self.task, "{name}": "jobs", "{schedule_id}": "theirs"}.items():
            path = path.replace(name, value)
        return path

    def _make(self, name: str, scopes: list[str], **members: Any) -> dict[str, str]:
        body = {"name": name, "scopes": scopes, **members}
        answer = self.client.post(f"{API_PREFIX}/keys", json=body, headers=self.admin)
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json()['key']}"}

    def _has_ended(self) -> bool:
        return self.client.get(f"{API_PREFIX}/queues", headers=self.keys["expired"]).status_code == 401


@pytest.mark.parametrize("key", ["none", "wrong", "malformed", "expired"])
def test_nobody_gets_in_without_a_good_key(site: Site, key: str) -> None:
    assert len(site.operations) > 15
    for method, path in site.operations:
        answer = site.ask(method, path, key)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "jobs" not in answer.text.replace(path, "")
    assert site.read_state() == ("scheduled", 86_400)


def test_another_tenant_neither_sees_nor_changes_anything(site: Site) -> None:
    assert site.task in [item["id"] for item in site.read_first_page(LISTING_STREAM, "reading")]
    for method, path in site.operations:
        if path == LISTING_STREAM:
            assert site.read_first_page(path, "foreign") == []
            continue
        answer = site.ask(method, path, "foreign")
        if answer.status_code in (200, 207):  # a listing of nothing, or a batch of refusals
            items = answer.json()["items"]
            assert all(item.get("status") == 404 for item in items), (method, path, items)
        else:
            assert answer.status_code in (403, 404, 409, 422), (method, path, answer.status_code)
    assert site.read_state() == ("scheduled", 86_400)


def test_a_reading_key_changes_nothing(site: Site) -> None:
    for method, path in site.operations:
        if method != "GET":
            assert site.ask(method, path, "reading").status_code == 403, (method, path)
    assert site.ask("GET", f"{API_PREFIX}/keys", "reading").status_code == 403
    assert site.ask("GET", f"{API_PREFIX}/tasks/{site.task}", "reading").status_code == 200
    assert site.read_state() == ("scheduled", 86_400)


def test_open_streams_end_with_their_key(site: Site) -> None:
    """What happens after a key was revoked is not told to whoever still has a stream open."""
    site.keys["leaving"] = site._make("leaving", ["read"])
    task = site.client.post(f"{API_PREFIX}/tasks", json=BODY | {"countdown_seconds": 3600}, headers=site.admin)
    url = f"{API_PREFIX}/tasks/{task.json()['id']}"
    with contextlib.ExitStack() as stack:
        streams = []
        for path in (f"{url}/events?follow=true", f"{API_PREFIX}/tasks:events?id={task.json()['id']}", LISTING_STREAM):
            answer = stack.enter_context(site.client.stream("GET", path, headers=site.keys["leaving"]))
            lines = answer.iter_lines()
            next(line for line in lines if line.startswith("data: "))
            streams.append(lines)
        for change in (f"{API_PREFIX}/keys/leaving", url):
            site.client.delete(change, headers=site.admin).raise_for_status()
        told = [[line for line in lines if line.startswith("data: ")] for lines in streams]
    assert told == [[], [], []]


def test_only_what_is_listed_is_open(site: Site) -> None:
    """Whatever is not documented asks for a key as well."""
    for path in ("/nothing", API_PREFIX, f"{API_PREFIX}/../tasks", "/admin", "/debug", "/ui/../api/v1/tasks"):
        assert site.client.get(path).status_code in (401, 404), path
        assert "jobs" not in site.client.get(path).text
