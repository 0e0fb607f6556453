"""Liveness and readiness of the operator over HTTP, on the standard library's asyncio alone."""

import asyncio
from collections.abc import Callable

__all__ = ["ProbeServer"]

Check = Callable[[], str | None]  # None: well; else what is wrong
READ_TIMEOUT_SECONDS = 5.0


class ProbeServer:
    """Answers GET on fixed paths: 200 `ok`, or 503 with what is wrong."""

    def __init__(self, checks: dict[str, Check], port: int, host: str = "0.0.0.0") -> None:
        self._checks = checks
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that is bound."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Bind and serve."""
        self._server = await asyncio.start_server(self._answer, self._host, self._port)

    async def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                parts = request.split(b" ", 2)
                path = parts[1].split(b"?")[0].decode("ascii", "replace") if len(parts) > 1 else ""
                check = self._checks.get(path)
                problem = "no such path" if check is None else check()
                status = "404 Not Found" if check is None else "503 Service Unavailable" if problem else "200 OK"
                body = f"{problem or 'ok'}\n".encode()
                head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
                writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
