"""A real `taskfleet up` as a subprocess with a data folder of its own, and the real command line beside it."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from tests.support.processes import ManagedProcess, free_port, start_process
from tests.support.waiting import eventually_sync

from taskfleet.local.orphans import find_orphans

__all__ = ["APP", "READY_SECONDS", "Up"]

APP = Path(__file__).parent / "app"
READY_SECONDS = 120  # on a machine with much else to do; measured elsewhere
COMMAND_SECONDS = 120

QUEUE = """\
apiVersion: taskfleet.dev/v1alpha1
kind: TaskQueue
metadata:
  name: {name}
  annotations: {{taskfleet.dev/directory: {directory}}}
spec:
  worker:
    app: jobs:app
    concurrency: 2
    maxTaskSeconds: 120
    env: [{{name: RUNS_FILE, value: {runs}}}]
  scaling: {{maxReplicas: {most}, idleSeconds: {idle}}}
"""


class Up:
    """One data folder, one port; the process can be stopped, killed and started again."""

    def __init__(self, folder: Path, *options: str, name: str = "jobs") -> None:
        self.folder, self.options, self.name = folder, options, name
        self.data = folder / "data"
        self.file = folder / "queue.yaml"
        self.runs_file = folder / "runs.txt"
        self.log = folder / "up.log"
        self.port = free_port()
        self.process: ManagedProcess | None = None
        self.write_queue()

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.port}"

    def write_queue(self, *, most: int = 3, idle: int = 2, more: str = "") -> None:
        """The TaskQueue file."""
        text = QUEUE.format(name=self.name, directory=APP, runs=self.runs_file, most=most, idle=idle)
        self.file.write_text(text + more)

    def start(self) -> "Up":
        """Start and wait until it says that it is ready."""
        before = self.log.read_text().count(" ready ") if self.log.exists() else 0
        command = [sys.executable, "-m", "taskfleet", "up", "-f", str(self.file), "--data", str(self.data)]
        command += ["--port", str(self.port), "--no-tui", *self.options]
        self.process = start_process(
            command, cwd=self.folder, log=self.log, ready=lambda: self._is_ready(before), timeout_seconds=READY_SECONDS
        )
        return self

    def _is_ready(self, before: int) -> bool:
        return self.log.exists() and self.log.read_text().count(" ready ") > before

    def signal(self, number: int = signal.SIGINT) -> None:
        """A signal to the process itself, as Ctrl-C would send it."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def join(self, timeout_seconds: float = 90) -> int:
        """Wait until it has ended; its exit code."""
        assert self.process is not None
        return self.process.popen.wait(timeout_seconds)

    def kill(self) -> None:
        """kill -9 of the process alone: its children live on."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.popen.wait(20)

    def end(self) -> None:
        """Stop everything, also what was orphaned."""
        if self.process is not None and self.process.is_running:
            self.signal()
            self.signal()
            try:
                self.join(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for orphan in find_orphans(self.data):
            os.killpg(orphan.pid, signal.SIGKILL)

    def run(self, *arguments: str, code: int = 0, text: str | None = None) -> str:
        """One `taskfleet` command; its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "taskfleet", *arguments],
            env=os.environ | {"TASKFLEET_URL": self.url},
            input=text,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def submit(self, task: str, count: int = 1, **kwargs: Any) -> list[str]:
        """Submit over the command line; the ids."""
        lines = "".join(json.dumps({"kwargs": kwargs}) + "\n" for _ in range(count))
        return self.run("submit", self.name, task, "-f", "-", text=lines).split()

    def get(self, path: str) -> Any:
        """A document of the API."""
        return httpx.get(f"{self.url}/api/v1{path}", timeout=30, trust_env=False).raise_for_status().json()

    def state(self, task_id: str) -> str:
        """The state of a task."""
        return str(self.get(f"/tasks/{task_id}")["state"])

    def workers(self) -> int | None:
        """Workers that the API sees."""
        count: int | None = self.get(f"/queues/{self.name}")["workers"]
        return count

    def runs(self) -> Counter[str]:
        """How often each task ran."""
        return Counter(self.runs_file.read_text().split() if self.runs_file.exists() else [])

    def wait_running(self, *ids: str) -> None:
        """Until the tasks have been taken up by a worker."""
        eventually_sync(lambda: set(ids) <= set(self.runs()), 90, 0.1)

    def log_tails(self) -> list[tuple[str, str]]:
        """Ends of all logs, for the report of a failed test."""
        files = [self.log, *sorted((self.data / "logs").glob("*.log"))]
        return [(str(file.name), file.read_text(errors="replace")[-3000:]) for file in files if file.exists()]
