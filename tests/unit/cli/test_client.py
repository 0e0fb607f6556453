"""The client against scripted HTTP answers: what it sends, how it reads, and what it does when the API is away."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import taskfleet
from taskfleet import AsyncClient, Client, Submission, TaskState, async_client
from taskfleet.exit_codes import DESCRIPTIONS, ExitCode, get_exit_code
from taskfleet_core import errors as core_errors

ROOT = Path(__file__).resolve().parents[3]
TASK = {
    "id": "01a2", "queue": "q", "task": "t", "state": "succeeded", "attempt": 1,
    "created_at": "2026-01-01T00:00:00Z", "result": 5, "added_later": True,
}  # fmt: skip
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow one another without a pause."""
    monkeypatch.setattr(async_client, "_pause", lambda failures: 0.0)
    monkeypatch.setattr("taskfleet.client._pause", lambda failures: 0.0)


def client_of(*answers: Handler | httpx.Response | Exception, retries: int = 3) -> tuple[Client, list[httpx.Request]]:
    """A client that gets the answers in turn, and the requests that it made."""
    requests: list[httpx.Request] = []
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    return Client("http://api", transport=httpx.MockTransport(handle), retries=retries), requests


def stream(*messages: tuple[str, str, dict[str, Any]]) -> httpx.Response:
    """A stream of (event, id, data)."""
    text = "retry: 1000\n\n: keep\n\n"
    for event, number, data in messages:
        text += f"event: {event}\nid: {number}\ndata: {json.dumps({'kind': event, 'id': '01a2', **data})}\n\n"
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


def problem(status: int, slug: str = "x", **members: Any) -> httpx.Response:
    """A problem document."""
    return httpx.Response(status, json={"type": f"https://taskfleet.dev/problems/{slug}", "detail": "why", **members})


def test_submission_sends_what_is_set_with_a_key_and_gives_a_typed_task() -> None:
    client, requests = client_of(httpx.Response(202, json=TASK))
    with client:
        task = client.submit("q", "t", [1], {"a": 2}, priority=3, retry=taskfleet.Retry(max_attempts=2))
    assert json.loads(requests[0].content) == {
        "queue": "q",
        "task": "t",
        "args": [1],
        "kwargs": {"a": 2},
        "priority": 3,
        "retry": {"max_attempts": 2, "backoff_seconds": 1.0, "max_backoff_seconds": 300.0, "jitter": True},
    }
    assert requests[0].headers["idempotency-key"]
    assert (task.state, task.result, task.succeeded) == (TaskState.SUCCEEDED, 5, True)


def test_a_receiver_is_named_for_one_task_and_for_a_batch() -> None:
    callback = {"url": "https://example.org/hook", "state": "given_up", "tries": 16, "last_error": "no connection"}
    batch = httpx.Response(202, json={"accepted": 1, "refused": 0, "items": [{"status": 202, **TASK}]})
    client, requests = client_of(httpx.Response(200, json=TASK | {"callback": callback}), batch)
    task = client.submit("q", "t", callback_url="https://example.org/hook")
    assert task.callback is not None
    assert (task.callback.state, task.callback.last_error) == ("given_up", "no connection")
    assert json.loads(requests[0].content)["callback_url"] == "https://example.org/hook"
    client.submit_many([{"queue": "q", "task": "t"}], callback_url="https://example.org/batch")
    assert requests[1].url.params["callback_url"] == "https://example.org/batch"


def test_lost_answer_is_asked_for_again_with_the_same_key() -> None:
    client, requests = client_of(httpx.ReadError("cut"), problem(503), httpx.Response(202, json=TASK))
    with client:
        client.submit("q", "t")
    assert len({request.headers["idempotency-key"] for request in requests}) == 1
    assert len(requests) == 3


@pytest.mark.parametrize(
    ("answer", "expected", "code"),
    [
        (problem(401), taskfleet.AuthenticationError, ExitCode.UNAUTHENTICATED),
        (problem(404), taskfleet.NotFoundError, ExitCode.NOT_FOUND),
        (problem(409), taskfleet.ConflictError, ExitCode.CONFLICT),
        (problem(422, errors=[{"pointer": "#/a", "detail": "b"}]), taskfleet.InvalidInputError, ExitCode.USAGE),
        (problem(413), taskfleet.InvalidInputError, ExitCode.USAGE),
        (problem(503, "overloaded"), taskfleet.OverloadedError, ExitCode.UNAVAILABLE),
        (problem(503, "records-unavailable"), taskfleet.UnavailableError, ExitCode.UNAVAILABLE),
        (httpx.Response(502, text="<html>"), taskfleet.UnavailableError, ExitCode.UNAVAILABLE),
        (httpx.Response(500, text="oops"), taskfleet.ApiError, ExitCode.INTERNAL),
        (httpx.ConnectError("refused"), taskfleet.UnavailableError, ExitCode.UNAVAILABLE),
    ],
)
def test_problem_becomes_an_error_and_an_exit_code(
    answer: httpx.Response | Exception, expected: type[taskfleet.TaskfleetError], code: ExitCode
) -> None:
    client, _ = client_of(answer, retries=0)
    with client, pytest.raises(expected) as caught:
        client.get("01a2")
    assert get_exit_code(caught.value) is code
    if isinstance(caught.value, taskfleet.InvalidInputError) and caught.value.errors:
        assert caught.value.errors[0].pointer == "#/a"


def test_every_error_has_an_exit_code_and_every_code_is_described() -> None:
    def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
        for child in kind.__subclasses__():
            yield child
            yield from subclasses(child)

    for kind in {core_errors.TaskfleetError, *subclasses(core_errors.TaskfleetError)}:
        assert get_exit_code(kind.__new__(kind)) in ExitCode  # type: ignore[arg-type]
    assert set(DESCRIPTIONS) == set(ExitCode)


@pytest.mark.parametrize(
    ("given", "environment", "headers", "sent"),
    [
        pytest.param("k1", None, None, "Bearer k1", id="given"),
        pytest.param(None, "k2\n", None, "Bearer k2", id="from the environment, with a line end"),
        pytest.param("k1", "k2", None, "Bearer k1", id="given goes before the environment"),
        pytest.param(None, "k2", {"authorization": "Basic x"}, "Basic x", id="the caller's own header goes first"),
        pytest.param(None, "", None, None, id="none"),
    ],
)
def test_key_is_sent_as_a_bearer_token(
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    environment: str | None,
    headers: dict[str, str] | None,
    sent: str | None,
) -> None:
    if environment is not None:
        monkeypatch.setenv("TASKFLEET_API_KEY", environment)
    seen: list[str | None] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json=TASK)

    with Client("http://api", api_key=given, headers=headers, transport=httpx.MockTransport(handle)) as client:
        client.get("01a2")
    assert seen == [sent]


def test_key_that_cannot_be_sent_is_refused_without_showing_it() -> None:
    with pytest.raises(taskfleet.InvalidInputError, match="printable ASCII") as refused:
        Client("http://api", api_key="hunter 2")
    assert "hunter" not in str(refused.value)


def test_watch_resumes_a_cut_stream_where_it_stopped() -> None:
    def resumed(request: httpx.Request) -> httpx.Response:
        assert request.headers["last-event-id"] == "1-3-1"
        return stream(("state", "1-9-1", {"state": "succeeded"}))

    client, _ = client_of(
        stream(("state", "1-3-0", {"state": "running"}), ("progress", "1-3-1", {"state": "running", "progress": 1})),
        httpx.Response(200, json=TASK | {"state": "running"}),
        httpx.ReadError("cut"),
        resumed,
    )
    with client:
        events = list(client.watch("01a2"))
    assert [event.kind for event in events] == ["state", "progress", "state"]
    assert events[-1].is_final


def test_wait_gives_the_final_task_and_a_failure_can_be_raised() -> None:
    failed = TASK | {"state": "failed", "error": {"type": "ValueError", "message": "no"}}
    client, _ = client_of(stream(("state", "1-9-0", {"state": "failed"})), httpx.Response(200, json=failed))
    with client, pytest.raises(taskfleet.TaskFailedError, match="ended as failed: ValueError: no"):
        client.wait("01a2").raise_unless_succeeded()


def test_wait_that_takes_too_long_is_a_timeout_of_its_own() -> None:
    client, _ = client_of(httpx.ReadTimeout("silence"))
    with client, pytest.raises(taskfleet.WaitTimeoutError):
        client.wait("01a2", timeout_seconds=0)


def test_list_fetches_pages_as_they_are_needed_and_stops_at_its_limit() -> None:
    client, requests = client_of(
        httpx.Response(200, json={"items": [TASK, TASK], "next_cursor": "c1"}),
        httpx.Response(200, json={"items": [TASK], "next_cursor": "c2"}),
    )
    with client:
        found = list(
            client.list(queue="q", states=["failed", TaskState.DEAD], metadata={"a": "b"}, limit=3, page_size=2)
        )
    assert len(found) == 3
    assert requests[0].url.params.get_list("state") == ["failed", "dead"]
    assert dict(requests[1].url.params) | {"state": ""} == {
        "queue": "q", "state": "", "metadata": "a=b", "limit": "1", "cursor": "c1",
    }  # fmt: skip


def test_batch_gives_refused_items_as_errors_in_their_place() -> None:
    items = [TASK | {"status": 202}, {"status": 404, "problem": {"detail": "no queue"}}]
    client, requests = client_of(httpx.Response(200, json={"accepted": 1, "refused": 1, "items": items}))
    with client:
        first, second = client.submit_many([Submission("q", "t"), {"queue": "x", "task": "t"}])
    assert isinstance(first, taskfleet.Task)
    assert isinstance(second, taskfleet.NotFoundError)
    assert requests[0].headers["idempotency-key"]


def test_batch_that_was_refused_as_a_whole_still_tells_of_each_item() -> None:
    items = [{"status": 404, "problem": {"detail": "no queue"}}] * 2
    client, _ = client_of(problem(404, items=items))
    with client:
        outcomes = client.submit_many([Submission("x", "t")] * 2)
    assert all(isinstance(outcome, taskfleet.NotFoundError) for outcome in outcomes)


def test_atomic_batch_that_was_refused_raises() -> None:
    client, _ = client_of(problem(422, items=[]))
    with client, pytest.raises(taskfleet.InvalidInputError):
        client.submit_many([Submission("x", "t")], atomic=True)


def test_ids_cannot_leave_their_path_segment() -> None:
    client, requests = client_of(problem(404))
    with client, pytest.raises(taskfleet.NotFoundError):
        client.get("../queues?x=1#y")
    assert requests[0].url.raw_path == b"/api/v1/tasks/..%2Fqueues%3Fx%3D1%23y"


async def test_asynchronous_client_does_the_same() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return stream(("state", "1-9-0", {"state": "succeeded"}))
        return httpx.Response(200, json=TASK)

    async with AsyncClient("http://api", transport=httpx.MockTransport(handle)) as client:
        assert (await client.wait("01a2")).result == 5


def test_synchronous_client_is_generated_from_the_asynchronous_one() -> None:
    command = [sys.executable, "hack/generate_sync_client.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names_are_what_the_package_exports() -> None:
    public = {name for name in vars(taskfleet) if not name.startswith("_")}
    modules = {name for name in public if f"taskfleet.{name}" in sys.modules}
    assert public - modules == set(taskfleet.__all__)
