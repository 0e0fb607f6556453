"""Receivers of callbacks on 127.0.0.1: each does to a call what the test says, and keeps what it was sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

__all__ = ["Behaviour", "Received", "Receiver", "answer", "open_receiver"]

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Received:
    """One call."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """A running receiver. `script` holds what happens to the next calls; afterwards the last one is repeated."""

    port: int = 0
    script: list[Behaviour] = field(default_factory=list)
    calls: list[Received] = field(default_factory=list)
    most_at_once: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """A callback URL that leads here."""
        return f"http://127.0.0.1:{self.port}/hook?from=test"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: read the call, then do as the script says."""
        task = cast(asyncio.Task[None], asyncio.current_task())
        self.tasks.add(task)
        self.most_at_once = max(self.most_at_once, len(self.tasks))
        try:
            self.calls.append(await _read(reader))
            behaviour = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            await behaviour(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the caller went, or the test has ended: then asyncio would log a cancelled handler
        finally:
            self.tasks.discard(task)
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Received(head[0].split(" ")[1], headers, await reader.readexactly(int(headers.get("content-length", 0))))


def answer(status: int, *headers: str, body: bytes = b"") -> Behaviour:
    """Answer with this status."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers, "", ""])
        writer.write(head.encode() + body)
        await writer.drain()

    return behave


@asynccontextmanager
async def open_receiver(*script: Behaviour) -> AsyncIterator[Receiver]:
    """A receiver for the length of a with block; without a script it answers 204."""
    receiver = Receiver(script=list(script) or [answer(204)])
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tuple(receiver.tasks):
            task.cancel()
        await asyncio.gather(*receiver.tasks)
