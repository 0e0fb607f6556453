"""A TCP proxy between a client and a server that can stop forwarding, drop connections, refuse or delay them."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.waiting import eventually

__all__ = ["CountingProxy", "Proxy"]


class Proxy:
    """Forwards 127.0.0.1:`port` to a port of this machine, within the running event loop. Use with `async with`.

    Of several target ports a connection gets the first one that listens, as behind a Service.
    """

    def __init__(self, *target_ports: int) -> None:
        self._target_ports = target_ports
        self._server: asyncio.Server | None = None
        self._forwarding = asyncio.Event()
        self._forwarding.set()
        self._links: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0
        self.held_bytes = 0  # read while frozen, and not forwarded yet
        self.delay_seconds = 0.0  # before each read of at most 64 KiB is forwarded, in both directions
        self.refusing = False  # new connections are reset

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._links, return_exceptions=True)

    def freeze(self) -> None:
        """A black hole: connections stay, new ones are accepted, not a byte goes through in either direction."""
        self._forwarding.clear()

    def thaw(self) -> None:
        """Forward again, also what was held back."""
        self._forwarding.set()

    def cut(self) -> None:
        """Reset all present connections."""
        for link in self._links:
            link.cancel()

    def on_data(self, data: bytes) -> None:
        """What a client sent is about to pass; for subclasses."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self.accepted += 1
        with contextlib.suppress(OSError, asyncio.CancelledError):
            if not self.refusing:
                await self._link(reader, writer)
        writer.transport.abort()
        self._links.discard(task)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._forwarding.wait()
        far_reader, far_writer = await self._connect()
        pumps = [
            asyncio.create_task(self._pump(reader, far_writer, self.on_data)),
            asyncio.create_task(self._pump(far_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            far_writer.transport.abort()  # before anything is waited for: a second cut may come meanwhile
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for port in self._target_ports[:-1]:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return await asyncio.open_connection("127.0.0.1", self._target_ports[-1])

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_data: Callable[[bytes], None] = lambda data: None,
    ) -> None:
        while data := await reader.read(65536):
            on_data(data)
            self.held_bytes += len(data)
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            await self._forwarding.wait()
            self.held_bytes -= len(data)
            writer.write(data)
            await writer.drain()


class CountingProxy(Proxy):
    """Counts what passes of HTTP requests."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self.requests = 0

    def on_data(self, data: bytes) -> None:
        self.requests += data.count(b" HTTP/1.1\r\n")

    async def wait_quiet(self, seconds: float = 0.4) -> None:
        """Return once nothing has passed for so long."""
        seen, since = self.requests, time.monotonic()

        def is_quiet() -> bool:
            nonlocal seen, since
            if self.requests != seen:
                seen, since = self.requests, time.monotonic()
            return time.monotonic() - since >= seconds

        await eventually(is_quiet, 30)
