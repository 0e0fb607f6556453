"""Load on an HTTP service by wrk: many connections, one thread, hardly any CPU of its own."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LoadResult", "run_load"]

SCRIPT = Path(__file__).with_name("wrk.lua")
MARK = "RESULT "


@dataclass(frozen=True)
class LoadResult:
    """What wrk saw."""

    requests: int
    seconds: float
    failures: int
    p50_ms: float
    p99_ms: float

    @property
    def accepted(self) -> int:
        """Requests that were answered with 2xx or 3xx."""
        return self.requests - self.failures


def run_load(url: str, body: str, *, seconds: float, connections: int) -> LoadResult:
    """POST `body` over and over on `connections` kept-alive connections."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("wrk is needed: apt-get install wrk")
    command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT), url, "--", body]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith(MARK))
    return LoadResult(**json.loads(line.removeprefix(MARK)))
