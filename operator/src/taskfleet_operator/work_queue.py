"""A de-duplicating work queue: one run per key, many keys at once, per-key back-off. Knows nothing of Kubernetes.

Keys are `group/name`; groups (namespaces) take turns, so that one with a thousand keys delays another's by one.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from taskfleet_core.backoff import decide_backoff_seconds
from taskfleet_core.ending import end_tasks
from taskfleet_core.errors import ConflictError
from taskfleet_core.waiting import wait_for_event

__all__ = ["WorkQueue"]

# The first pause, which doubles, and the longest.
BACKOFF_SECONDS = 0.4, 30.0
CONFLICT_SECONDS = 0.1, 1.0
GIVE_WAY_SECONDS = 1.0

_log = structlog.get_logger()


class WorkQueue:
    """Runs `handle(key)` for keys that were added; adding a key that waits changes nothing, adding one that is being
    handled runs it once more afterwards. `handle` returns after how many seconds to come again, or None."""

    def __init__(self, handle: Callable[[str], Awaitable[float | None]], workers: int) -> None:
        self._handle = handle
        self._slots = asyncio.Semaphore(workers)
        self._ready: dict[str, deque[str]] = {}  # group -> keys that wait; never empty
        self._turns: deque[str] = deque()  # the groups that have keys waiting, next one first
        self._waiting: set[str] = set()
        self._running: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._wake = asyncio.Semaphore(0)
        self._calm = asyncio.Event()  # no key waits
        self._calm.set()
        self._dispatcher: asyncio.Task[None] | None = None
        self._runs: set[asyncio.Task[None]] = set()

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._waiting)

    def add(self, key: str) -> None:
        """Have a key handled as soon as possible."""
        self._cancel_timer(key)
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._calm.clear()
            self._put(key)
            self._wake.release()

    def add_later(self, key: str, seconds: float) -> None:
        """Have a key handled after a while, or earlier if it is added before."""
        if key in self._waiting or key in self._timers:
            return
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._on_timer, key)

    def forget(self, key: str) -> None:
        """Drop what is remembered of a key that is gone."""
        self._cancel_timer(key)
        self._failures.pop(key, None)

    async def give_way(self) -> None:
        """To be awaited by `handle` before the part of its run that may wait: keys that no run has begun for yet go
        first, for a while. The key counts as being handled all the time."""
        if self._calm.is_set():
            return
        self._slots.release()
        await wait_for_event(self._calm, GIVE_WAY_SECONDS)
        await self._slots.acquire()  # a run cancelled before ends one slot short, which matters to nobody: all end

    async def start(self) -> None:
        """Begin to handle keys."""
        self._dispatcher = asyncio.create_task(self._dispatch(), name="reconcile")

    async def stop(self) -> None:
        """Stop; what is being handled is cancelled."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        await end_tasks([self._dispatcher] if self._dispatcher else [])
        await end_tasks(list(self._runs))

    def _put(self, key: str) -> None:
        group = key.partition("/")[0]
        if group not in self._ready:
            self._ready[group] = deque()
            self._turns.append(group)
        self._ready[group].append(key)

    def _take(self) -> str:
        """The oldest key of the group whose turn it is."""
        group = self._turns.popleft()
        keys = self._ready[group]
        key = keys.popleft()
        if keys:
            self._turns.append(group)
        else:
            del self._ready[group]
        return key

    def _on_timer(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _cancel_timer(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def _dispatch(self) -> None:
        while True:
            await self._wake.acquire()
            await self._slots.acquire()
            key = self._take()
            self._waiting.discard(key)
            if not self._waiting:
                self._calm.set()
            self._running.add(key)
            run = asyncio.create_task(self._run(key), name=f"reconcile {key}")
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)

    async def _run(self, key: str) -> None:
        try:
            later = await self._handle(key)
            self._failures.pop(key, None)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            later = self._back_off(key, error)
            # A failure may follow its own writes, whose events ask for another run: the pause comes first.
            self._again.discard(key)
        finally:
            self._running.discard(key)
            self._slots.release()
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif later is not None:
            self.add_later(key, later)

    def _back_off(self, key: str, error: Exception) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        # Somebody else was faster: what is new arrives within moments, and nothing is broken.
        conflict = isinstance(error, ConflictError)
        first, longest = CONFLICT_SECONDS if conflict else BACKOFF_SECONDS
        seconds = decide_backoff_seconds(count, first, longest, random.random())
        text = str(error) or type(error).__name__
        report = _log.info if conflict else _log.warning
        report("reconcile.failed", key=key, error=text, retry_seconds=round(seconds, 2))
        return seconds
