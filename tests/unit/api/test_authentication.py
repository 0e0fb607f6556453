"""`auth_mode: apiKey`: without the key nothing but probes, metrics and the API's own pages answers."""

from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.unit.api.conftest import RunningApp, build_settings, on_shared

from taskfleet_api.app import create_app
from taskfleet_api.authentication import OPEN_PATHS

KEY = "correct-horse-battery-staple"
URL = "/api/v1/tasks"
TASK = {"queue": "jobs", "task": "jobs.add"}
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def overrides() -> dict[str, Any]:
    return {"auth_mode": "apiKey", "admin_key": KEY, "cors_origins": "https://console.example", "references": "000,003"}


WRONG = [
    pytest.param({}, id="none"),
    pytest.param({"Authorization": "Bearer wrong"}, id="wrong"),
    pytest.param({"Authorization": f"Bearer {KEY}x"}, id="longer"),
    pytest.param({"Authorization": f"Basic {KEY}"}, id="another scheme"),
    pytest.param({"Authorization": KEY}, id="no scheme"),
    pytest.param({"Authorization": "Bearer "}, id="empty"),
    pytest.param({"X-API-Key": "wrong", **BEARER}, id="X-API-Key decides"),
    pytest.param({"Authorization": b"Bearer \xff\xfe"}, id="no text"),
]


@on_shared
@pytest.mark.parametrize("headers", WRONG)
@pytest.mark.parametrize("origin", [{}, {"Origin": "https://console.example"}], ids=["script", "browser"])
async def test_submission_without_the_key_gets_401_and_leaves_nothing(
    shared: RunningApp, headers: dict[str, Any], origin: dict[str, str]
) -> None:
    """The short way of submissions and the ordinary one (with an Origin) agree."""
    answer = await shared.client.post(URL, json=TASK, headers={**headers, **origin})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/unauthenticated")
    challenge = 'Bearer realm="taskfleet"' + (', error="invalid_token"' if headers else "")
    assert answer.headers["www-authenticate"] == challenge
    listed = await shared.client.get(URL, headers=BEARER)
    assert listed.json()["items"] == []


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(BEARER, id="bearer"),
        pytest.param({"Authorization": f"bearer   {KEY} "}, id="spelled otherwise"),
        pytest.param({"X-API-Key": KEY}, id="X-API-Key"),
        pytest.param({"X-API-Key": KEY, "Authorization": "Basic x"}, id="behind a proxy's own login"),
        pytest.param({**BEARER, "Origin": "https://console.example"}, id="from a browser"),
    ],
)
async def test_submission_with_the_key_is_recorded_under_its_principal(
    running: RunningApp, headers: dict[str, str]
) -> None:
    answer = await running.client.post(URL, json=TASK, headers=headers)
    assert answer.status_code == 202
    batch = await running.client.post(f"{URL}:batch", json=[TASK], headers=headers)
    ids = [UUID(answer.json()["id"]), UUID(batch.json()["items"][0]["id"])]
    found = await running.app.state.services.records.get_many(ids)
    assert [record.principal for record in found.values()] == ["admin", "admin"]


async def test_idempotency_keys_work_with_the_key(running: RunningApp) -> None:
    headers = {**BEARER, "Idempotency-Key": "order-1"}
    first, second = [await running.client.post(URL, json=TASK, headers=headers) for _ in range(2)]
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["idempotency-replayed"] == "true"


async def test_every_documented_path_but_the_open_ones_wants_the_key(running: RunningApp) -> None:
    """Those of the references too, and paths that do not exist."""
    document = (await running.client.get("/openapi.json")).json()
    assert any(not path.startswith("/api/") for path in document["paths"].keys() - OPEN_PATHS)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answer = await running.client.request(method, path.replace("{", "").replace("}", ""))
            closed = path not in OPEN_PATHS
            assert (answer.status_code == 401) is closed, (method, path)
            assert ("401" in operation["responses"]) is closed
            assert bool(operation.get("security")) is closed
    assert (await running.client.get("/nothing/here")).status_code == 401
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}


async def test_a_browsers_preflight_needs_no_key_and_its_refusal_can_be_read(running: RunningApp) -> None:
    origin = {"Origin": "https://console.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = await running.client.options(URL, headers=origin | asked)
    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    refused = await running.client.post(URL, json=TASK, headers=origin)
    assert refused.headers["access-control-allow-origin"] == origin["Origin"]


@pytest.mark.parametrize(("path", "status"), [("/x/livez", 200), ("/livez", 200), ("/x/api/v1/queues", 401)])
async def test_paths_are_told_apart_below_a_proxys_prefix(tmp_path: Path, path: str, status: int) -> None:
    app = create_app(build_settings(tmp_path, auth_mode="apiKey", admin_key=KEY, root_path="/x"))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get(path)).status_code == status


def test_without_authentication_the_document_tells_of_none(tmp_path: Path) -> None:
    document = create_app(build_settings(tmp_path)).openapi()
    assert "securitySchemes" not in document["components"]
    assert all("401" not in op["responses"] for ops in document["paths"].values() for op in ops.values())


@on_shared
@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
@pytest.mark.parametrize("values", [(KEY, "other"), ("other", KEY), (KEY, KEY)])
async def test_two_keys_are_one_too_many(shared: RunningApp, name: str, values: tuple[str, str]) -> None:
    """A proxy in front may have looked at the other one."""
    start = "Bearer " if name == "Authorization" else ""
    headers = [(name, start + value) for value in values]
    for method, body in (("GET", None), ("POST", TASK)):
        assert (await shared.client.request(method, URL, json=body, headers=headers)).status_code == 401
