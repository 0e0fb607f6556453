"""The management API's client against a server that ends its connections."""

import asyncio
import contextlib

import pytest

from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.topology.management import Management

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"


class Server:
    """Answers `answers` requests on each connection and ends it when the next one comes."""

    def __init__(self, answers: int) -> None:
        self._answers = answers
        self.requests = 0
        self.connections: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.append(task)
        for _ in range(self._answers):
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            writer.write(ANSWER)
        await reader.read(1)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def survey(server: Server) -> None:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    management = Management(f"http://127.0.0.1:{port}", BrokerAddress("127.0.0.1", 5672))
    try:
        await management.fetch_survey()
    finally:
        await management.close()
        await asyncio.gather(*server.connections)
        listening.close()
        await listening.wait_closed()


async def test_a_request_is_made_again_when_its_connection_ends_under_it() -> None:
    """A broker ends idle connections at a moment of its own, also while the next request is on its way."""
    server = Server(answers=1)
    await survey(server)
    assert server.requests == 2


async def test_a_server_that_always_hangs_up_is_an_unavailable_broker() -> None:
    with pytest.raises(BrokerUnavailableError, match="does not answer"):
        await survey(Server(answers=0))
