"""Starting real servers for tests: free ports, logs, readiness, kill -9, no orphans when the test run is killed."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ManagedProcess", "ProcessError", "children_of", "descendants_of", "free_port", "start_process"]

# Reads process ids line by line and kills their groups once its input ends, which happens however its parent dies.
_REAPER = """
import os, signal, sys
def started(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None
seen = {}
for line in sys.stdin:
    sign, pid = line[0], int(line[1:])
    if sign == "+":
        seen[pid] = started(pid)
    else:
        seen.pop(pid, None)
for pid, at in seen.items():
    if at is not None and started(pid) == at:
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass
"""


class ProcessError(RuntimeError):
    """A server did not start, or ended before it was ready; the message holds the end of its log."""


# Below the range from which the kernel takes the ports of outgoing connections: nobody else grabs one of these between
# the choice and the server's start. Test processes beside each other (pytest -n) take from slices of their own.
_SLICE = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 6
_ports = random.sample(range(12_000 + 3_000 * _SLICE, 15_000 + 3_000 * _SLICE), 3_000)
_port_lock = threading.Lock()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on, never the same twice within this process."""
    with _port_lock:
        while True:
            port = _ports.pop()
            with socket.socket() as probe, contextlib.suppress(OSError):
                # As servers do: a port that only old connections remember is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
                return port


class _Reaper:
    """One helper process per test run that outlives it by a moment and kills what it left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def tell(self, line: str) -> None:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _REAPER], stdin=subprocess.PIPE, start_new_session=True
                )
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()


_reaper = _Reaper()


@dataclass
class ManagedProcess:
    """A child in its own session, so that a signal reaches its whole process group."""

    popen: subprocess.Popen[bytes]
    log: Path | None
    command: Sequence[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Process id, also the id of the process group."""
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        """Whether the child has not ended yet."""
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; a group that is gone is no error."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """kill -9 of the group; returns when the child is gone."""
        self.signal(signal.SIGKILL)
        self.popen.wait(timeout=20)
        _reaper.tell(f"-{self.pid}")

    def terminate(self, timeout_seconds: float = 20) -> int:
        """SIGTERM to the child alone, kill -9 of the group when it takes too long; returns the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=timeout_seconds)
        code = self.popen.poll()
        self.kill()
        return -signal.SIGKILL if code is None else code

    def output(self, tail_bytes: int = 4000) -> str:
        """The end of the log."""
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - tail_bytes))
            return log.read().decode(errors="replace")


def children_of(pid: int) -> list[int]:
    """The processes that any thread of this one started and that still live; none when it has ended."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def descendants_of(pid: int) -> list[int]:
    """Its children with theirs, also those in process groups of their own."""
    return [found for child in children_of(pid) for found in (child, *descendants_of(child))]


def start_process(
    cmd: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    log: Path | None = None,
    ready: Callable[[], bool] | None = None,
    timeout_seconds: float = 30,
) -> ManagedProcess:
    """Start `cmd` in its own session, wait until `ready()`; raises ProcessError with the log when that fails.

    `env` is added to the environment of this process. Output is appended to `log` (default: thrown away).
    """
    with open(log or os.devnull, "ab") as output:
        popen = subprocess.Popen(
            list(cmd),
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _reaper.tell(f"+{popen.pid}")
    process = ManagedProcess(popen, log, list(cmd))
    if ready is not None:
        _wait_ready(process, ready, timeout_seconds)
    return process


def _wait_ready(process: ManagedProcess, ready: Callable[[], bool], timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        if not process.is_running or time.monotonic() > deadline:
            why = "ended" if not process.is_running else f"not ready after {timeout_seconds} s"
            process.kill()
            raise ProcessError(f"{process.command[0]}: {why}\n{process.output()}")
        time.sleep(0.05)
