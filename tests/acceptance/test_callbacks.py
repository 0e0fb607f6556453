"""Callbacks survive the API: what had ended is told by whoever starts next."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from tests.support.processes import free_port
from tests.support.stack import Stack, StackOptions, running_stack
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS = {
    "callback_secrets": SECRET,
    "callback_allow": "127.0.0.1",
    "callback_timeout_seconds": "1",
    "callback_backoff_seconds": "0.2",
    "callback_max_backoff_seconds": "0.5",
    "callback_attempts": "100",
}
COUNT = 20
TOLD_SECONDS = 60  # a call that was under way when its replica died waits for the end of its lease, 21 s


@pytest.fixture
def small_stack() -> Iterator[Stack]:
    """One API process, Valkey and SQLite; no worker is needed to cancel."""
    with running_stack(StackOptions("valkey", "sqlite", environment=SETTINGS)) as made:
        made.add_queue("jobs")
        yield made


def test_an_api_that_is_killed_between_the_end_and_the_call_loses_no_callback(small_stack: Stack) -> None:
    """The receiver starts after the kill: nothing can have been told before."""
    api, port, heard = TaskApi(small_stack.client()), free_port(), set[str]()
    ids = [
        api.submit("jobs", "jobs.add", countdown_seconds=600, callback_url=f"http://127.0.0.1:{port}/")["id"]
        for _ in range(COUNT)
    ]
    for task_id in ids:
        assert api.request("DELETE", f"/tasks/{task_id}").status_code == 200
    small_stack.kill_api()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            heard.add(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", port), Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            small_stack.start_api()
            eventually_sync(lambda: len(heard) == COUNT, TOLD_SECONDS, interval_seconds=0.1)
        finally:
            server.shutdown()
    assert heard == {f"msg_{task_id.replace('-', '')}_1" for task_id in ids}
    states = {eventually_sync(lambda i=task_id: _settled(api, i), 10) for task_id in ids}
    assert states == {"delivered"}


def _settled(api: TaskApi, task_id: str) -> str | None:
    state = str(api.get(task_id)["callback"]["state"])
    return None if state == "pending" else state
