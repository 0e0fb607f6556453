"""What a run that was killed left behind: found by notes in the data folder, and stopped.

A note names a process by its id and the moment of its start, so that a stranger who was given the same id later is let
alone. The environment would not do: programs that give themselves a title overwrite it, and whatever a task starts
inherits it.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Orphan", "find_orphans", "forget_process", "note_process", "stop_orphans"]

FOLDER = "processes"
POLL_SECONDS = 0.05
PS_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Orphan:
    """A child of an earlier run that is still alive. Its id is also that of its group."""

    pid: int
    kind: str


def note_process(data: Path, kind: str, pid: int) -> Path:
    """Write down a child that was just started; returns the note. Raises OSError."""
    note = data / FOLDER / f"{pid}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"kind": kind, "started": _read_start(pid)}))
    return note


def forget_process(note: Path) -> None:
    """The child has ended."""
    note.unlink(missing_ok=True)


def find_orphans(data: Path) -> list[Orphan]:
    """Processes that an earlier run on the same data folder left. Notes of those that are gone are removed."""
    found = []
    for note in sorted((data / FOLDER).glob("*.json")):
        orphan = _read_note(note)
        if orphan is None:
            forget_process(note)
        else:
            found.append(orphan)
    return found


def _read_note(note: Path) -> Orphan | None:
    try:
        told = json.loads(note.read_text())
        pid, kind, started = int(note.stem), str(told["kind"]), told["started"]
    except (OSError, ValueError, TypeError, KeyError):  # half written: the process was killed in that very moment
        return None
    if started is None or _read_start(pid) != started or not _is_alive(pid):
        return None
    return Orphan(pid, kind)


def _read_start(pid: int) -> str | None:
    """When a process started, in words that only equal those of the same process; None when there is none."""
    try:
        if sys.platform == "linux":
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            return f"{boot} {_read_stat(pid)[19]}"
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PS_SECONDS, check=False)
        return done.stdout.strip() or None
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return None


def _read_stat(pid: int) -> list[str]:
    """The fields after the command of /proc/PID/stat: state, parent and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    if sys.platform == "linux":
        with contextlib.suppress(OSError, IndexError):
            return _read_stat(pid)[0] != "Z"
    return True


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
