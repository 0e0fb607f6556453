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


HOSTILE = {
    "10 MB": (b"x" * 10_000_000, 413),
    "broken JSON": (b"{broken", 400),
    "wrong types": (b'{"queue": 1, "task": [], "args": {}, "delay": [], "data": 1, "name": {}, "title": 0}', 422),
    "another type": (b'"text"', 422),
    "raw NUL": (b'{"queue": "jobs", "task": "a\x00b", "name": "\x00", "data": "\x00"}', 400),
    "NUL in a name": (b'{"queue": "jobs", "task": "a\\u0000b"}', 422),
    "NUL in an argument": (b'{"queue": "jobs", "task": "t", "args": [{"a": "\\u0000"}]}', 422),
    "NUL in a key": (b'{"queue": "jobs", "task": "t", "kwargs": {"\\u0000": 1}}', 422),
    "NUL in metadata": (b'{"queue": "jobs", "task": "t", "metadata": {"a": ["\\u0000"]}}', 422),
    "deep": (b'{"queue": "jobs", "task": "t", "args": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 422),
    "deep and broken": (b"[" * 1_000_000, 422),
    "huge integer": (b'{"queue": "jobs", "task": "t", "delay": 1, "args": [' + b"9" * 5_000 + b"]}", 422),
    "infinite number": (b'{"queue": "jobs", "task": "t", "priority": 1e400}', 422),
    "no UTF-8": (b"\xff\xfe\x00", 400),
    "empty": (b"", 400),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", URL), ("POST", "/api/v1/schedules"), ("PUT", "/api/v1/schedules/s")]
)
def test_hostile_bodies_get_a_problem(client: httpx.Client, method: str, path: str, name: str) -> None:
    body, status = HOSTILE[name]
    answer = client.request(method, path, content=body, headers=JSON)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_hostile_batches_and_items_get_a_problem(client: httpx.Client, media_type: str, name: str) -> None:
    """As the whole body, and as the item beside a good one, which is accepted."""
    body, _ = HOSTILE[name]
    headers = {"Content-Type": media_type}
    whole = client.post("/api/v1/tasks:batch", content=body, headers=headers)
    assert 400 <= whole.status_code < 500
    assert whole.headers["content-type"] == "application/problem+json"
    if name.startswith("NUL") or name in ("wrong types", "huge integer", "infinite number"):
        good = json.dumps(GOOD).encode()
        both = b"[" + good + b"," + body + b"]" if media_type == "application/json" else good + b"\n" + body
        answer = client.post("/api/v1/tasks:batch", content=both, headers=headers)
        assert [item["status"] for item in answer.json()["items"]] == [202, 422]


@pytest.mark.parametrize(
    ("member", "pointer"),
    [
        ({"args": [1, {"a": "\x00"}]}, "#/args/1/a"),
        ({"kwargs": {"a": {"b\x00": 1}}}, "#/kwargs/a"),
        ({"metadata": {"a": ["\x00"]}}, "#/metadata/a/0"),
    ],
)
def test_a_nul_character_is_pointed_at(client: httpx.Client, member: dict[str, object], pointer: str) -> None:
    for method, path in (("POST", URL), ("PUT", "/api/v1/schedules/s")):
        body = GOOD | member | ({"interval_seconds": 60} if method == "PUT" else {})
        answer = client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    batch = client.post("/api/v1/tasks:batch", json=[GOOD, GOOD | member])
    assert batch.json()["items"][1]["problem"]["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/delay"), ("POST", "/tasks/submit"), ("POST", "/tasks/"), ("PUT", "/tasks/1"), ("POST", "/api/tasks")],
)
def test_hostile_bodies_are_refused_at_the_references_paths(
    client: httpx.Client, method: str, path: str, name: str
) -> None:
    body, status = HOSTILE[name]
    answer = client.request(method, path, content=body, headers=JSON)
    assert answer.status_code == 413 if status == 413 else 400 <= answer.status_code < 500
    assert {"detail", "error"} & set(answer.json())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_harm_nothing_where_none_is_read(client: httpx.Client, name: str) -> None:
    for path in (f"{URL}/x:retry", "/api/v1/queues/x/dead:redrive", "/api/v1/queues/x/dead:purge"):
        answer = client.post(path, content=HOSTILE[name][0], headers=JSON)
        assert 400 <= answer.status_code < 500
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_nobody_reads_does_not_end_the_connection(client: httpx.Client) -> None:
    ports = set()
    for _ in range(10):
        answer = client.post(f"{URL}/x:retry", content=b"x" * 1_000_000, headers=JSON)
        assert answer.status_code == 404
        ports.add(answer.extensions["network_stream"].get_extra_info("client_addr")[1])
    assert len(ports) == 1


def test_a_chunked_body_is_bounded_too(client: httpx.Client) -> None:
    answer = client.post(URL, content=(b"x" * 100_000 for _ in range(50)), headers=JSON)
    assert answer.status_code == 413


def test_metadata_that_would_be_a_flood_of_rows_is_refused(client: httpx.Client) -> None:
    most = {f"key-{number}": number for number in range(64)}
    for members, status in ((most, 202), (most | {"one": "more"}, 422)):
        answer = client.post(URL, json=GOOD | {"metadata": members})
        assert answer.status_code == status
        batch = client.post("/api/v1/tasks:batch", json=[GOOD | {"metadata": members}])
        assert batch.status_code == status
    assert answer.json()["errors"][0]["pointer"] == "#/metadata"


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


def test_a_client_that_says_nothing_at_all_is_cut_off(served: Stack, client: httpx.Client) -> None:
    begun = time.monotonic()
    assert talk(served, b"") == b""
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
