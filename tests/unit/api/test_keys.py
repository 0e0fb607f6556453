"""Keys with scopes, queues and an end: what each may do, sees and leaves in the log."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
from tests.unit.api.conftest import RunningApp, on_shared

from taskfleet_api.keys.ring import make_secret
from taskfleet_api.records import KeyRecord
from taskfleet_core.errors import RecordsUnavailableError

ADMIN_KEY = "correct-horse-battery-staple"
ADMIN = {"X-API-Key": ADMIN_KEY}
TASKS, KEYS = "/api/v1/tasks", "/api/v1/keys"
Make = Callable[..., Awaitable[dict[str, str]]]


@pytest.fixture(scope="module")
def overrides() -> dict[str, Any]:
    return {
        "auth_mode": "apiKey",
        "admin_key": ADMIN_KEY,
        "cors_origins": "https://console.example",
        "references": "000",
    }


@pytest.fixture
def make_key(running: RunningApp) -> Make:
    """The header of a new key."""

    async def make(*scopes: str, name: str = "shop", **members: Any) -> dict[str, str]:
        body = {"name": name, "scopes": list(scopes), **members}
        answer = await running.client.post(KEYS, json=body, headers=ADMIN)
        assert answer.status_code == 201, answer.text
        assert answer.headers["cache-control"] == "no-store"
        return {"Authorization": f"Bearer {answer.json()['key']}"}

    return make


async def add_expired_key(running: RunningApp) -> dict[str, str]:
    """The header of an administrator's key whose time was over yesterday: over HTTP nobody can make one."""
    secret, digest = make_secret()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    key = KeyRecord("expired", ("admin",), None, yesterday - timedelta(days=1), yesterday)
    assert await running.app.state.services.records.add_key(key, digest)
    return {"Authorization": f"Bearer {secret}"}


async def submit(running: RunningApp, headers: Mapping[str, str], queue: str = "jobs") -> httpx.Response:
    return await running.client.post(TASKS, json={"queue": queue, "task": "jobs.add"}, headers=headers)


CALLS = [
    ("POST", TASKS, "submit"),
    ("POST", f"{TASKS}:batch", "submit"),
    ("GET", TASKS, "read"),
    ("GET", f"{TASKS}/01920000-0000-7000-8000-000000000000", "read"),
    ("GET", f"{TASKS}/01920000-0000-7000-8000-000000000000/events", "read"),
    ("DELETE", f"{TASKS}/01920000-0000-7000-8000-000000000000", "cancel"),
    ("POST", f"{TASKS}/01920000-0000-7000-8000-000000000000:retry", "submit"),
    ("GET", "/api/v1/queues", "read"),
    ("GET", "/api/v1/queues/jobs", "read"),
    ("POST", "/api/v1/queues/jobs/dead:redrive", "admin"),
    ("POST", "/api/v1/queues/jobs/dead:purge", "admin"),
    ("GET", "/api/v1/schedules", "read"),
    ("PUT", "/api/v1/schedules/nightly", "submit"),
    ("GET", KEYS, "admin"),
    ("POST", KEYS, "admin"),
    ("DELETE", f"{KEYS}/nobody", "admin"),
    ("POST", "/send-message", "submit"),
    ("GET", "/nothing/here", "read"),
]


@pytest.mark.parametrize("scope", ["submit", "read", "cancel", "admin"])
async def test_a_key_does_what_its_scopes_say_and_nothing_else(running: RunningApp, make_key: Make, scope: str) -> None:
    headers = await make_key(scope)
    for origin in ({}, {"Origin": "https://console.example"}):
        for method, path, needed in CALLS:
            body = {"queue": "jobs", "task": "jobs.add"} if path == TASKS and method == "POST" else None
            answer = await running.client.request(method, path, json=body, headers=headers | origin)
            refused = needed != scope and scope != "admin"
            assert (answer.status_code == 403) is refused, (method, path, answer.text)
            assert answer.status_code != 401
            if refused:
                assert answer.json()["type"].endswith("/forbidden")
                assert needed in answer.json()["detail"]


async def test_only_own_queues_exist_for_a_limited_key(running: RunningApp, make_key: Make) -> None:
    """Also tasks, schedules and dead letters of other queues look as if they were not there."""
    for queue in ("shop-orders", "shop-mails"):
        await running.add_queue(queue)
    headers = await make_key("submit", "read", "cancel", "admin", queues=["shop-*"])
    foreign = (await submit(running, ADMIN)).json()["id"]
    own = (await submit(running, headers, "shop-orders")).json()["id"]
    client = running.client

    refused = await submit(running, headers)
    assert refused.status_code == 404
    assert "jobs" not in str(refused.json().get("queues"))
    batch = await client.post(f"{TASKS}:batch", json=[{"queue": "jobs", "task": "a"}], headers=headers)
    assert batch.json()["items"][0]["status"] == 404
    assert [item["id"] for item in (await client.get(TASKS, headers=headers)).json()["items"]] == [own]
    assert (await client.get(f"{TASKS}?queue=jobs", headers=headers)).json()["items"] == []
    for method, path in [("GET", ""), ("GET", "/events"), ("DELETE", ""), ("POST", ":retry")]:
        answer = await client.request(method, f"{TASKS}/{foreign}{path}", headers=headers)
        assert answer.status_code == 404, (method, path)
    assert (await client.get(f"{TASKS}/{foreign}", headers=ADMIN)).json()["state"] == "pending"
    assert (await client.delete(f"{TASKS}/{own}", headers=headers)).status_code in (200, 202, 503)
    queues = (await client.get("/api/v1/queues", headers=headers)).json()["items"]
    assert [queue["name"] for queue in queues] == ["shop-mails", "shop-orders"]
    for action in ("redrive", "purge"):
        assert (await client.post(f"/api/v1/queues/jobs/dead:{action}", headers=headers)).status_code == 404
    assert (await client.get(KEYS, headers=headers)).status_code == 403
    assert (await client.post("/send-message", json={}, headers=headers)).status_code == 403


async def test_schedules_of_other_queues_are_neither_seen_nor_replaced(running: RunningApp, make_key: Make) -> None:
    await running.add_queue("shop-orders")
    headers = await make_key("submit", "read", queues=["shop-*"])
    client, url = running.client, "/api/v1/schedules"
    rule = {"task": "jobs.add", "interval_seconds": 60}
    assert (await client.put(f"{url}/theirs", json=rule | {"queue": "jobs"}, headers=ADMIN)).status_code == 201
    assert (await client.put(f"{url}/ours", json=rule | {"queue": "shop-orders"}, headers=headers)).status_code == 201
    listed = (await client.get(f"{url}?limit=1", headers=headers)).json()
    assert [item["id"] for item in listed["items"]] == ["ours"]
    assert (await client.get(f"{url}/theirs", headers=headers)).status_code == 404
    assert (await client.delete(f"{url}/theirs", headers=headers)).status_code == 404
    taken = await client.put(f"{url}/theirs", json=rule | {"queue": "shop-orders"}, headers=headers)
    assert taken.status_code == 409
    assert (await client.get(f"{url}/theirs", headers=ADMIN)).json()["queue"] == "jobs"


async def test_no_operation_serves_a_foreign_expired_or_reading_key_more_than_it_may(
    running: RunningApp, make_key: Make
) -> None:
    """Every documented operation, on a queue, task and schedule that exist."""
    task = (await submit(running, ADMIN)).json()["id"]
    schedule = {"queue": "jobs", "task": "jobs.add", "interval_seconds": 60}
    await running.client.put("/api/v1/schedules/theirs", json=schedule, headers=ADMIN)
    foreign = await make_key("submit", "read", "cancel", "admin", name="foreign", queues=["other"])
    reading = await make_key("read", name="reading")
    expired = await add_expired_key(running)
    values = {"{task_id}": task, "{name}": "jobs", "{schedule_id}": "theirs"}
    document = (await running.client.get("/openapi.json")).json()
    operations = [
        (method.upper(), path)
        for path, found in document["paths"].items()
        for method, operation in found.items()
        # A listing's stream has no end, which this client would wait for: it is tried over a socket.
        if operation.get("security") and operation["operationId"] != "streamTasks"
    ]
    assert len(operations) > 20
    for method, path in operations:
        for name, value in values.items():
            path = path.replace(name, value)
        body = {"queue": "jobs", "task": "jobs.add"} if method in ("POST", "PUT") else None
        statuses = {}
        for key, headers in (("foreign", foreign), ("reading", reading), ("expired", expired)):
            if (key, method) != ("reading", "GET"):
                answer = await running.client.request(method, path, json=body, headers=headers)
                statuses[key] = answer.status_code
                if answer.status_code == 200:  # a listing of nothing
                    assert answer.json()["items"] == [], (method, path, key)
        assert statuses["expired"] == 401, (method, path)
        assert statuses.get("reading", 403) == 403, (method, path)
        assert statuses["foreign"] in (200, 403, 404, 409, 422), (method, path)
    assert (await running.client.get(f"{TASKS}/{task}", headers=ADMIN)).json()["state"] == "pending"
    assert (await running.client.get("/api/v1/schedules/theirs", headers=ADMIN)).status_code == 200


async def test_tasks_carry_the_name_of_the_key(running: RunningApp, make_key: Make) -> None:
    task = (await submit(running, await make_key("submit"))).json()["id"]
    (record,) = (await running.app.state.services.records.get_many([UUID(task)])).values()
    assert record.principal == "key:shop"


async def test_a_key_ends_when_it_expires_or_is_revoked(running: RunningApp, make_key: Make) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    expiring = await make_key("submit", name="a", expires_at=end.isoformat())
    revoked = await make_key("submit", name="b")
    assert [(await submit(running, headers)).status_code for headers in (expiring, revoked)] == [202, 202]
    assert (await running.client.delete(f"{KEYS}/b", headers=ADMIN)).status_code == 204
    assert (await submit(running, revoked)).status_code == 401
    assert running.app.keys is not None
    running.app.keys.now = lambda: end
    assert (await submit(running, expiring)).status_code == 401
    listed = (await running.client.get(KEYS, headers=ADMIN)).json()["items"]
    assert [(item["name"], "key" in item) for item in listed] == [("a", False)]
    assert (await running.client.delete(f"{KEYS}/b", headers=ADMIN)).status_code == 404


@on_shared
@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"name": "a b"}, "#/name"),
        ({"scopes": []}, "#/scopes"),
        ({"scopes": ["everything"]}, "#/scopes/0"),
        ({"queues": []}, "#/queues"),
        ({"queues": ["a*b"]}, "#/queues/0"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "#/expires_at"),
        ({"expires_at": "tomorrow"}, "#/expires_at"),
        ({"colour": "red"}, "#/colour"),
    ],
)
async def test_bad_keys_are_refused_by_field(shared: RunningApp, members: dict[str, Any], pointer: str) -> None:
    body = {"name": "shop", "scopes": ["read"], **members}
    answer = await shared.client.post(KEYS, json=body, headers=ADMIN)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_name_is_taken_once(running: RunningApp, make_key: Make) -> None:
    await make_key("read")
    answer = await running.client.post(KEYS, json={"name": "shop", "scopes": ["read"]}, headers=ADMIN)
    assert answer.status_code == 409


async def test_refusals_and_changes_leave_a_line_without_any_key(running: RunningApp, make_key: Make) -> None:
    headers = await make_key("read")
    with structlog.testing.capture_logs() as lines:
        await submit(running, headers)
        await submit(running, {"X-API-Key": "tfk_wrong"})
        await submit(running, ADMIN)
        await running.client.get(TASKS, headers=headers)
        await running.client.delete(f"{KEYS}/shop", headers=ADMIN)
    told = [(line["event"], line["principal"], line["status"]) for line in lines if "principal" in line]
    assert told == [("refused", "key:shop", 403), ("refused", None, 401), ("changed", "admin", 204)]
    assert "tfk_" not in str(lines)
    assert ADMIN_KEY not in str(lines)


async def test_a_key_in_use_goes_on_working_while_the_database_is_away(running: RunningApp, make_key: Make) -> None:
    """One that was not seen lately cannot be judged: 503, not 401."""
    known, unknown = await make_key("read", name="a"), await make_key("read", name="b")
    assert (await running.client.get("/api/v1/queues", headers=known)).status_code == 200
    assert running.app.keys is not None
    running.app.keys.remembered.trust_seconds = 0.0

    async def fail(_digest: bytes) -> None:
        raise RecordsUnavailableError("the database is away")

    running.app.keys.fetch = fail
    assert (await running.client.get("/api/v1/queues", headers=known)).status_code == 200
    assert (await running.client.get("/api/v1/queues", headers=unknown)).status_code == 503
    assert (await running.client.get("/api/v1/queues", headers={"X-API-Key": "tfk_x"})).status_code == 503
    assert (await running.client.get("/api/v1/queues", headers=ADMIN)).status_code == 200


async def test_many_requests_ask_the_database_once(running: RunningApp, make_key: Make) -> None:
    headers = await make_key("read")
    keys = running.app.keys
    assert keys is not None
    assert keys.fetch is not None
    fetch, asked = keys.fetch, []

    async def count(digest: bytes) -> Any:
        asked.append(digest)
        return await fetch(digest)

    keys.fetch = count
    answers = await asyncio.gather(*(running.client.get("/api/v1/queues", headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(asked) == 1


class TestWithoutAuthentication:
    """Keys have no meaning."""

    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {}

    async def test_keys_are_refused_with_the_fix(self, running: RunningApp) -> None:
        answer = await running.client.post(KEYS, json={"name": "shop", "scopes": ["read"]})
        assert answer.status_code == 409
        assert "auth_mode" in answer.json()["detail"]
