"""Requests at a fixed rate, whatever the answers do: as many independent callers would send them. Only to 127.0.0.1."""

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass, field

__all__ = ["Flood", "FloodResult"]

TICK_SECONDS = 0.005
MOST_CONNECTIONS = 2_000
GIVE_UP_SECONDS = 10.0  # a caller waits no longer


@dataclass
class FloodResult:
    """What the callers saw."""

    seconds: float = 0.0
    sent: int = 0
    unsent: int = 0  # no connection was free: two thousand callers wait already
    broken: int = 0  # connections that ended without an answer, or could not be opened
    given_up: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0  # 429 and 503 that do not say when to come again
    accepted_seconds: list[float] = field(default_factory=list)
    refused_seconds: list[float] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """Requests that were promised."""
        return self.statuses[202]

    @property
    def refused(self) -> int:
        """Requests that were told to come again."""
        return self.statuses[429] + self.statuses[503]


class Flood:
    """Sends `body` to `path` at `rate` requests a second for `seconds`."""

    def __init__(self, port: int, path: str, body: bytes, rate: float, seconds: float) -> None:
        self._port, self._rate, self._seconds = port, rate, seconds
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self.request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self.result = FloodResult()
        self.idle: deque[_Caller] = deque()
        self._opening = 0
        self._callers: set[_Caller] = set()

    async def run(self) -> FloodResult:
        """Return once the time is over and every caller has its answer or gave up."""
        begun = time.perf_counter()
        planned = 0
        while (now := time.perf_counter() - begun) < self._seconds:
            due = int(now * self._rate)
            for _ in range(due - planned):
                self._send()
            planned = due
            await asyncio.sleep(TICK_SECONDS)
        self.result.seconds = time.perf_counter() - begun
        deadline = time.perf_counter() + GIVE_UP_SECONDS
        while any(caller.is_waiting for caller in self._callers) and time.perf_counter() < deadline:
            await asyncio.sleep(TICK_SECONDS)
        for caller in list(self._callers):
            caller.leave()
        return self.result

    def _send(self) -> None:
        while self.idle:
            caller = self.idle.popleft()
            if caller.is_open:
                caller.ask()
                return
        if len(self._callers) + self._opening < MOST_CONNECTIONS:
            self._opening += 1
            asyncio.get_running_loop().create_task(self._open(time.perf_counter()))
        else:
            self.result.unsent += 1

    async def _open(self, asked_at: float) -> None:
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(GIVE_UP_SECONDS):
                _, caller = await loop.create_connection(lambda: _Caller(self), "127.0.0.1", self._port)
        except (OSError, TimeoutError):
            self.result.broken += 1
        else:
            self._callers.add(caller)
            caller.ask(asked_at)
        finally:
            self._opening -= 1

    def forget(self, caller: "_Caller") -> None:
        """A connection is gone."""
        self._callers.discard(caller)


class _Caller(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._transport: asyncio.Transport | None = None
        self._asked_at = 0.0
        self._answer = b""
        self._timer: asyncio.TimerHandle | None = None
        self.is_waiting = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def ask(self, asked_at: float | None = None) -> None:
        """Send the request."""
        assert self._transport is not None
        self._asked_at, self.is_waiting, self._answer = asked_at or time.perf_counter(), True, b""
        self._timer = asyncio.get_running_loop().call_later(GIVE_UP_SECONDS, self._give_up)
        self._flood.result.sent += 1
        self._transport.write(self._flood.request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        self._settle()
        result, status = self._flood.result, int(head[9:12])
        result.statuses[status] += 1
        seconds = time.perf_counter() - self._asked_at
        (result.accepted_seconds if status == 202 else result.refused_seconds).append(seconds)
        result.without_retry_after += status in (429, 503) and b"\nretry-after:" not in head.lower()
        self._flood.idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self.is_waiting:
            self._settle()
            self._flood.result.broken += 1
        self._flood.forget(self)

    def leave(self) -> None:
        """Close, whatever is under way."""
        if self.is_waiting:
            self._give_up()
        elif self._transport is not None:
            self._transport.close()

    def _give_up(self) -> None:
        self._settle()
        self._flood.result.given_up += 1
        if self._transport is not None:
            self._transport.abort()

    def _settle(self) -> None:
        self.is_waiting = False
        if self._timer is not None:
            self._timer.cancel()


def _content_length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\ncontent-length:")
    return int(rest.split(b"\r", 1)[0]) if rest else 0
