"""A plain Celery app whose tasks do what no task should. Knows nothing of Taskfleet."""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from celery import Celery

app = Celery("poison")
HEADROOM_BYTES = 256 * 1024 * 1024
PIECE_BYTES = 16 * 1024 * 1024


class Unpicklable(Exception):
    """Holds what no other process can have."""

    def __init__(self, message: str, lock: Any) -> None:
        super().__init__(message)
        self.lock = lock


class Unprintable(Exception):
    """Fails at the attempt to show it."""

    def __str__(self) -> str:
        raise RuntimeError("cannot be shown")

    __repr__ = __str__


@app.task
def well() -> int:
    """What every worker must still do after all the others."""
    return os.getpid()


@app.task
def segfault() -> None:
    ctypes.string_at(0)


@app.task
def leave(code: int) -> None:
    os._exit(code)


@app.task
def exit_politely(code: int) -> None:
    sys.exit(code)


@app.task
def be_killed() -> None:
    """What the kernel does to a process whose container is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def crash_until(flag: str) -> str:
    if not Path(flag).exists():
        ctypes.string_at(0)
    return "mended"


@app.task
def leak() -> None:
    """Allocate until the process may have no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + HEADROOM_BYTES, hard))
    kept = []
    try:
        while True:
            kept.append(bytearray(PIECE_BYTES))
    finally:
        kept.clear()
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@app.task
def fork_and_return() -> str:
    """Both processes come back from here."""
    return "child" if os.fork() == 0 else "parent"


@app.task
def fork_and_exit() -> str:
    """The child ends as a script would; its parent goes on."""
    if os.fork() == 0:
        sys.exit(1)
    time.sleep(1)
    return "parent"


@app.task
def fork_and_fail() -> str:
    if os.fork() == 0:
        raise ValueError("of the child")
    time.sleep(1)
    return "parent"


@app.task
def ignore_term(started: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(started).write_text(str(os.getpid()))
    time.sleep(600)


@app.task(time_limit=2)
def oversleep() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


@app.task
def flood(size: int) -> str:
    return "x" * size


@app.task
def give_object() -> Any:
    return threading.Lock()


@app.task
def give_circle() -> Any:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@app.task
def raise_unpicklable() -> None:
    raise Unpicklable("holds a lock", threading.Lock())


@app.task
def raise_unprintable() -> None:
    raise Unprintable


@app.task
def raise_interrupt() -> None:
    raise KeyboardInterrupt


@app.task
def shout(size: int) -> None:
    raise ValueError("x" * size)


@app.task
def recurse() -> None:
    recurse.run()
