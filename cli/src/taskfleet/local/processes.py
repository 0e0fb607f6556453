"""Child processes: started in a session of their own, noted in the data folder, and stopped."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taskfleet.local.orphans import forget_process, note_process
from taskfleet_core.worker_ends import explain_worker_end

__all__ = ["Child", "read_failure", "start_child"]

# These end by themselves once this process is gone, as after SIGTERM. The store stays for what they still write to it.
ENDING_WITH_US = frozenset({"api", "flower", "worker"})
PR_SET_PDEATHSIG = 1  # of Linux's prctl
POLL_SECONDS = 0.05
TAIL_BYTES = 8192
LOG_LIMIT_BYTES = 10 * 1024 * 1024


@dataclass(slots=True)
class Child:
    """One child process and its log."""

    kind: str
    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    log_start: int
    note: Path
    started_at: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        """Process id, also that of its group."""
        return self.popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.popen.poll()

    def terminate(self) -> None:
        """SIGTERM to the process itself; its own children are its business."""
        self._signal(os.kill, signal.SIGTERM)

    def kill(self) -> None:
        """kill -9 of the whole group."""
        self._signal(os.killpg, signal.SIGKILL)
        if self.exit_code is not None:
            forget_process(self.note)

    def _signal(self, send: object, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(self.pid, number)  # type: ignore[operator]

    async def stop(self, timeout_seconds: float) -> int:
        """SIGTERM, kill -9 after the time limit; the exit code."""
        if self.exit_code is None:
            self.terminate()
        deadline = time.monotonic() + timeout_seconds
        while self.exit_code is None:
            if time.monotonic() > deadline:
                self.kill()
            await asyncio.sleep(POLL_SECONDS)
        self.kill()  # what it left in its group
        return self.exit_code

    def read_failure(self) -> str:
        """Why it ended, from its log."""
        return read_failure(self.log, self.log_start) or f"ended with code {self.exit_code}"


def _inherit() -> dict[str, str]:
    """Our environment without the clients' key: to the API its name would be a setting that it does not know."""
    return {name: value for name, value in os.environ.items() if name != "TASKFLEET_API_KEY"}


def start_child(
    kind: str,
    name: str,
    command: Sequence[str],
    *,
    data: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Child:
    """Start a child whose output is appended to `log`. Raises OSError when the program or `cwd` does not exist."""
    _rotate(log)
    with log.open("ab") as output:
        start = output.tell()
        popen = subprocess.Popen(
            list(command),
            env={**_inherit(), **(environment or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for us alone
            preexec_fn=_build_end_with_us() if kind in ENDING_WITH_US else None,
        )
    try:
        note = note_process(data, kind, popen.pid)
    except OSError:  # a full disk, say: what nobody would find again shall not run
        os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        raise
    return Child(kind, name, popen, log, start, note)


def _build_end_with_us() -> Callable[[], None] | None:
    """What a child runs before its program: Linux shall send it SIGTERM when the thread that started it, our main one,
    is gone. Everything is looked up here: between fork and exec nothing may be waited for."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def end_with_us() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # gone already
            os._exit(1)

    return end_with_us


def _rotate(log: Path) -> None:
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))


def read_failure(log: Path, start: int = 0) -> str:
    """What the end of a log tells; empty without a log."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - TAIL_BYTES))
        return explain_worker_end(file.read().decode(errors="replace"))
    return ""
