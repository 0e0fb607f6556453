"""Proxy headers are believed from trusted proxies only; what breaks inside becomes a 500 problem."""

import json
from typing import Any

import pytest
from tests.unit.api.conftest import RunningApp, on_shared

from taskfleet_api.middleware import Instrumentation, ProxyHeaders


async def pass_through(trusted: list[str], client: str, **headers: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    scope = {
        "type": "http",
        "client": (client, 1),
        "scheme": "http",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    await ProxyHeaders(app, trusted)(scope, None, None)  # type: ignore[arg-type]
    return seen


FORWARDED = {"x_forwarded_for": "6.6.6.6, 203.0.113.9, 10.0.0.2", "x_forwarded_proto": "https"}


@pytest.mark.parametrize(
    ("trusted", "peer", "client", "scheme"),
    [
        (["10.0.0.0/8"], "10.0.0.1", "203.0.113.9", "https"),
        (["10.0.0.0/8"], "192.0.2.1", "192.0.2.1", "http"),
        (["10.0.0.1"], "10.0.0.1", "10.0.0.2", "https"),
        (["*"], "192.0.2.1", "6.6.6.6", "https"),
        (["10.0.0.0/8"], "testclient", "testclient", "http"),
    ],
)
async def test_only_trusted_peers_name_the_client(trusted: list[str], peer: str, client: str, scheme: str) -> None:
    seen = await pass_through(trusted, peer, **FORWARDED)
    assert (seen["client"][0], seen["scheme"]) == (client, scheme)


async def test_an_error_that_nobody_caught_is_a_problem_without_its_text() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("amqp://user:secret@host")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
    await Instrumentation(app)(scope, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 500
    assert "secret" not in json.dumps(json.loads(sent[1]["body"]))


@on_shared
@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/metrics", "/api/v1/tasks", "/nothing"])
async def test_every_answer_tells_browsers_to_guess_and_frame_nothing(shared: RunningApp, path: str) -> None:
    answer = await shared.client.get(path)
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_submissions_do_too(running: RunningApp) -> None:
    for queue, status in (("jobs", 202), ("none", 404)):
        answer = await running.client.post("/api/v1/tasks", json={"queue": queue, "task": "a.b"})
        assert answer.status_code == status
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
