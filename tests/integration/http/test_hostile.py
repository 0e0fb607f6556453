"""Hostile and broken clients on a real socket: each gets a 4xx problem or is cut off, and others notice nothing."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.support.stack import Stack
from tests.support.waiting import eventually_sync

URL = "/api/v1/tasks"
GOOD = {"queue": "jobs", "task": "jobs.add"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(served: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.base_url, timeout=20, trust_env=False) as made:
        yield made
        assert made.post(URL, json=GOOD).status_code == 202
        assert "request_failed" not in (served.directory / "api-0.log").read_text(errors="replace")


def talk(served: Stack, text: bytes, *, seconds: float = 5) -> bytes:
    """What the server answers to raw bytes before it closes, or within `seconds`."""
    host, port = served.base_url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(text)
        try:
            while part := connection.recv(65_536):
                received += part
        except TimeoutError:
            return received + b"(still open)"
        except ConnectionResetError:
            return received
    return received


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"x" * 10_000_000, 413, id="10 MB"),
        pytest.param(b"{broken", 400, id="broken JSON"),
        pytest.param(b'{"queue": 1, "task": [], "args": {}}', 422, id="wrong types"),
        pytest.param(b'{"queue": "jobs", "task": "a\x00b"}', 400, id="raw NUL"),
        pytest.param(b'{"queue": "jobs", "task": "a\\u0000b"}', 422, id="escaped NUL"),
        pytest.param(b'{"queue": "jobs", "task": "t", "args": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 422, id="deep"),
        pytest.param(b"[" * 1_000_000, 422, id="deep and broken"),
        pytest.param(b'{"queue": "jobs", "task": "t", "args": [' + b"9" * 5_000 + b"]}", 422, id="huge integer"),
        pytest.param(b'{"queue": "jobs", "task": "t", "priority": 1e400}', 422, id="infinite number"),
        pytest.param(b"\xff\xfe\x00", 400, id="no UTF-8"),
        pytest.param(b"", 400, id="empty"),
    ],
)
def test_hostile_bodies_get_a_problem(client: httpx.Client, body: bytes, status: int) -> None:
    for path in (URL, "/api/v1/schedules"):
        answer = client.post(path, content=body, headers=JSON)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


def test_a_chunked_body_is_bounded_too(client: httpx.Client) -> None:
    answer = client.post(URL, content=(b"x" * 100_000 for _ in range(50)), headers=JSON)
    assert answer.status_code == 413


def test_a_full_batch_of_32_mib_is_accepted_and_more_is_not(client: httpx.Client) -> None:
    item = json.dumps(GOOD | {"args": ["x" * 3_200]})
    full = ("[" + ",".join([item] * 10_000) + "]").encode()
    answer = client.post("/api/v1/tasks:batch", content=full, headers=JSON, timeout=60)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 10_000)
    more = client.post("/api/v1/tasks:batch", content=full + b" " * 2_000_000, headers=JSON, timeout=60)
    assert more.status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"X-Long": "x" * 1_000_000}, id="a long one"),
        pytest.param({f"X-{n}": "x" * 10 for n in range(2_000)}, id="many"),
    ],
)
def test_headers_are_bounded(client: httpx.Client, headers: dict[str, str]) -> None:
    # The server may close the connection while the headers are still coming.
    with contextlib.suppress(httpx.TransportError):
        assert client.get("/livez", headers=headers).status_code in (400, 431)


def test_a_client_that_sends_no_headers_is_cut_off(served: Stack, client: httpx.Client) -> None:
    begun = time.monotonic()
    assert b"(still open)" not in talk(served, b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\n")
    assert time.monotonic() - begun < 4


def test_a_client_that_sends_no_body_gets_408(served: Stack, client: httpx.Client) -> None:
    head = b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    assert b" 408 " in talk(served, head, seconds=4).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS"),
        pytest.param(b"GET\r\n\r\n", id="HTTP 0.9"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="HTTP 9.9"),
        pytest.param(b"\x00" * 100, id="NUL bytes"),
    ],
)
def test_what_is_not_http_is_turned_away(served: Stack, client: httpx.Client, text: bytes) -> None:
    assert b" 200 " not in talk(served, text, seconds=3)


def test_a_client_that_leaves_early_harms_nobody(served: Stack, client: httpx.Client) -> None:
    task_id = client.post(URL, json=GOOD | {"countdown_seconds": 1_000}).json()["id"]
    for _ in range(20):
        with client.stream("GET", f"{URL}/{task_id}/events") as stream:
            assert next(stream.iter_lines()) == "retry: 1000"
    eventually_sync(lambda: 'taskfleet_api_streams{kind="events"} 0.0' in client.get("/metrics").text)
