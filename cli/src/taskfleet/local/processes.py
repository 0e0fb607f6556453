"""Child processes: start in a session of their own, stop, and find what a killed run left behind."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taskfleet_core.worker_ends import explain_worker_end

__all__ = ["Child", "Orphan", "find_orphans", "read_failure", "start_child", "stop_orphans"]

# In the environment of every child: "<kind>:<data folder>". It finds them again without any file that could be stale.
MARKER = "TASKFLEET_LOCAL"
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
            env={**_inherit(), **(environment or {}), MARKER: f"{kind}:{data}"},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for us alone
        )
    return Child(kind, name, popen, log, start)


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


@dataclass(frozen=True, slots=True)
class Orphan:
    """A child of an earlier run that is still alive."""

    pid: int
    kind: str


def find_orphans(data: Path) -> list[Orphan]:
    """Processes that an earlier run on the same data folder left. Only the heads of their groups."""
    wanted = re.compile(rf"(?:^|[\0 ]){MARKER}=(\w+):{re.escape(str(data))}(?:[\0 ]|$)")
    found = []
    for pid, environment in _read_environments():
        match = wanted.search(environment)
        if match and pid != os.getpid() and _is_group_head(pid):
            found.append(Orphan(pid, match[1]))
    return found


def _read_environments() -> Iterable[tuple[int, str]]:
    """Every process of ours with its environment."""
    if sys.platform == "linux":
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):
                    yield int(folder.name), (folder / "environ").read_bytes().decode(errors="replace")
        return
    done = subprocess.run(
        ["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True, timeout=10, check=False
    )
    for line in done.stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        if pid.isdecimal():
            yield int(pid), command


def _is_group_head(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except OSError:
        return False


async def stop_orphans(orphans: Sequence[Orphan], order: Sequence[str], timeout_seconds: float) -> None:
    """Stop them kind by kind: SIGTERM, then kill -9 of the group; what they did not finish is delivered again."""
    for kind in order:
        pids = [orphan.pid for orphan in orphans if orphan.kind == kind]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_seconds
        while (pids := [pid for pid in pids if _is_alive(pid)]) and time.monotonic() < deadline:  # noqa: ASYNC110 - no event tells the end of a process that is no child
            await asyncio.sleep(POLL_SECONDS)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        while (pids := [pid for pid in pids if _is_alive(pid)]) and time.monotonic() < deadline + 5:  # noqa: ASYNC110 - no event tells the end of a process that is no child
            await asyncio.sleep(POLL_SECONDS)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
