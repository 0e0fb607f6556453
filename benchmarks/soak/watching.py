"""Samples of everything that could grow: memory and connections of each process, tables, the stream, open records."""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.stack import Stack

from benchmarks.servers import list_family, resident_mib, run_sql
from taskfleet_core import wire

__all__ = ["Sample", "Watcher"]

EVERY_SECONDS = 5.0
STUCK_SECONDS = 90  # longer than any fault here and its recovery
OPEN = "('scheduled', 'pending', 'queued', 'running', 'retrying')"


@dataclass(frozen=True)
class Sample:
    """One look. What could not be read, because its server is down, is absent."""

    at: float  # seconds since the start
    memory_mib: dict[str, float]  # proportional, by role
    sockets: dict[str, int]  # open sockets, by role
    rows: dict[str, int] = field(default_factory=dict)  # tables, stream, open and stuck records


class Watcher:
    """Takes a sample every few seconds; a context manager."""

    def __init__(self, stack: Stack) -> None:
        self.samples: list[Sample] = []
        self._stack = stack
        self._begun = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._begun

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            self.samples.append(self.look())

    def look(self) -> Sample:
        """One sample now."""
        families = {name: [each for pid in pids for each in _family(pid)] for name, pids in self._find_roots().items()}
        roles = {name: pids for name, pids in families.items() if pids}
        memory = {name: _sum_memory(pids) for name, pids in roles.items()}
        sockets = {name: sum(map(_count_sockets, pids)) for name, pids in roles.items()}
        return Sample(self.seconds, memory, sockets, self._count())

    def _find_roots(self) -> dict[str, list[int]]:
        found = {"workers": [worker.process.pid for worker in list(self._stack.workers)]}
        with suppress(AssertionError):
            found["API"] = [self._stack.api_process().pid]
        parts = {"RabbitMQ": self._stack.broker, "Valkey": self._stack.valkey, "PostgreSQL": self._stack.database}
        for name, part in parts.items():
            process = getattr(part, "_process", None)
            if process is not None:
                found[name] = [process.pid]
        return found

    def _count(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        url = self._stack.database_url
        with suppress(Exception):  # a server that is down just now is the point of the whole
            counts["records"] = int(run_sql(url, "SELECT count(*) FROM tasks"))
            counts["open records"] = int(run_sql(url, f"SELECT count(*) FROM tasks WHERE state IN {OPEN}"))
            stuck = f"created_at < now() - interval '{STUCK_SECONDS} seconds'"
            counts["stuck records"] = int(run_sql(url, f"SELECT count(*) FROM tasks WHERE state IN {OPEN} AND {stuck}"))
        with suppress(Exception):
            counts["events in the stream"] = int(self._stack.valkey.command("XLEN", wire.EVENTS_STREAM).lstrip(b":"))
        return counts


def _family(pid: int) -> Sequence[int]:
    return list_family(pid) if Path(f"/proc/{pid}").exists() else []


def _sum_memory(pids: Sequence[int]) -> float:
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += resident_mib(pid)[1]
    return total


def _count_sockets(pid: int) -> int:
    count = 0
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                count += os.readlink(link).startswith("socket:")
    return count
