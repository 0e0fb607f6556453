"""Probes over HTTP, and what they are told of a poller that is stuck."""

import asyncio
import time

import pytest
from pydantic import SecretStr

from taskfleet_operator.kube import Kube
from taskfleet_operator.probes import ProbeServer
from taskfleet_operator.replica import STALE_POLLS, Operator
from taskfleet_operator.settings import OperatorSettings


async def ask(port, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        pytest.param(b"GET /well HTTP/1.1\r\n\r\n", "200 OK", "ok", id="well"),
        pytest.param(b"GET /ill?verbose=1 HTTP/1.0\r\n\r\n", "503 Service Unavailable", "it hurts", id="ill"),
        pytest.param(b"GET /none HTTP/1.1\r\n\r\n", "404 Not Found", "no such path", id="unknown"),
        pytest.param(b"\r\n\r\n", "404 Not Found", "no such path", id="nonsense"),
    ],
)
async def test_answers(request_, status, text):
    server = ProbeServer({"/well": lambda: None, "/ill": lambda: "it hurts"}, 0, "127.0.0.1")
    await server.start()
    try:
        answer = await ask(server.port, request_)
        assert answer.startswith(f"HTTP/1.1 {status}\r\n")
        assert answer.endswith(f"{text}\n")
    finally:
        await server.stop()


class _NoConnection:
    async def close(self):
        pass


async def test_stuck_poller_is_not_alive():
    """Ready, and no round of polling has ended for too long: the process must be started anew."""
    url = SecretStr("redis://127.0.0.1:1/0")
    operator = Operator(OperatorSettings(broker_url=url, redis_url=url), Kube(_NoConnection()))
    assert operator.check_alive() is None
    operator._ready, operator._ready_at = True, time.monotonic()
    assert operator.check_alive() is None
    operator._ready_at -= STALE_POLLS + 5
    assert "no round of polling has ended" in operator.check_alive()
    await operator._store.close()
