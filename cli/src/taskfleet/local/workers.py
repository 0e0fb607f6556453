"""The worker processes of one TaskQueue: what pods are on Kubernetes. Starts, drains, and backs off when they die.

Which and how many is decided elsewhere; here is only who leaves first and when the next start may be tried.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from taskfleet.local.journal import Journal
from taskfleet.local.processes import Child
from taskfleet_core.events import Heartbeat

__all__ = ["StartWorker", "Worker", "WorkerPool"]

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
SHORT_LIFE_SECONDS = 10.0  # a worker that dies sooner than this after its first heartbeat counts as one that never was
STARTUP_WEIGHT = 0.2  # of the newest start-up time in the average

StartWorker = Callable[[str], Child]


@dataclass(slots=True)
class Worker:
    """One worker process."""

    host: str
    child: Child
    ready_at: float | None = None  # its first heartbeat, on the clock of time.monotonic
    beat: Heartbeat | None = None
    drain_deadline: float | None = None  # set once it was told to leave
    killed: bool = False

    @property
    def is_draining(self) -> bool:
        """Whether it was told to leave."""
        return self.drain_deadline is not None

    @property
    def busy(self) -> int:
        """Tasks that it runs, as far as it has said."""
        return self.beat["busy"] if self.beat else 0

    @property
    def in_hand(self) -> int:
        """Tasks that it holds, running or reserved."""
        return max(self.busy, len(self.beat["tasks"])) if self.beat else 0


class WorkerPool:
    """All workers of one queue. `start` makes a process for a host name and may raise OSError."""

    def __init__(self, queue: str, start: StartWorker, journal: Journal, *, grace_seconds: float) -> None:
        self.queue = queue
        self.grace_seconds = grace_seconds
        self.workers: list[Worker] = []
        self.startup_seconds: float | None = None
        self.problem: str | None = None  # why the last worker died by itself
        self._start = start
        self._journal = journal
        self._failures = 0
        self._next_start_at = 0.0

    @property
    def staying(self) -> list[Worker]:
        """Workers that were not told to leave: the replicas."""
        return [worker for worker in self.workers if not worker.is_draining]

    @property
    def ready(self) -> list[Worker]:
        """Workers that consume."""
        return [worker for worker in self.staying if worker.ready_at is not None]

    @property
    def draining(self) -> list[Worker]:
        """Workers that finish what they have."""
        return [worker for worker in self.workers if worker.is_draining]

    @property
    def pause_seconds(self) -> float:
        """How long no worker is started because the last ones died."""
        return max(0.0, self._next_start_at - time.monotonic())

    def observe(self, beats: Mapping[str, Heartbeat] | None) -> None:
        """Take heartbeats (None: unknown) and ended processes into account; kill what outlived its grace period."""
        now = time.monotonic()
        for worker in self.workers:
            if beats is not None:
                self._observe_beat(worker, beats.get(worker.host), now)
            if worker.drain_deadline is not None and now > worker.drain_deadline and not worker.killed:
                self._journal.warning("worker_killed", queue=self.queue, worker=worker.host, reason="grace period over")
                self._kill(worker)
        for worker in [worker for worker in self.workers if worker.child.exit_code is not None]:
            self.workers.remove(worker)
            worker.child.kill()  # pool processes that outlived their parent
            self._observe_end(worker, now)

    def _observe_beat(self, worker: Worker, beat: Heartbeat | None, now: float) -> None:
        worker.beat = beat
        if beat is None or worker.ready_at is not None:
            return
        worker.ready_at = now
        took = now - worker.child.started_at
        average = self.startup_seconds
        self.startup_seconds = took if average is None else average + STARTUP_WEIGHT * (took - average)
        self._journal.info("worker_ready", queue=self.queue, worker=worker.host, seconds=round(took, 2))

    def _observe_end(self, worker: Worker, now: float) -> None:
        if worker.is_draining:
            self._journal.info("worker_left", queue=self.queue, worker=worker.host)
            return
        self.problem = worker.child.read_failure()
        lasted = worker.ready_at is not None and now - worker.ready_at > SHORT_LIFE_SECONDS
        if lasted:
            self._failures, self._next_start_at, pause = 1, now, 0.0
        else:
            pause = self._back_off(now)
        self._journal.warning(
            "worker_died",
            queue=self.queue,
            worker=worker.host,
            code=worker.child.exit_code,
            reason=self.problem,
            pause_seconds=pause,
        )

    def scale(self, replicas: int) -> None:
        """Start what is missing, unless the last ones died; tell those to leave that are too many."""
        missing = replicas - len(self.staying)
        if missing > 0 and not self.pause_seconds:
            # After failures one at a time: many broken starts at once tell no more than one.
            for _ in range(1 if self._failures else missing):
                self._start_one()
        if self._failures and any(
            w.ready_at and time.monotonic() - w.ready_at > SHORT_LIFE_SECONDS for w in self.ready
        ):
            self._failures, self.problem = 0, None
        for worker in self.choose_victims(-missing):
            self.drain(worker)

    def _start_one(self) -> None:
        host = f"{self.queue}-{secrets.token_hex(2)}"
        try:
            self.workers.append(Worker(host, self._start(host)))
        except OSError as error:
            pause = self._back_off(time.monotonic())
            self.problem = f"cannot be started: {error}"
            self._journal.warning("worker_not_started", queue=self.queue, reason=str(error), pause_seconds=pause)

    def _back_off(self, now: float) -> float:
        """One more start failed: the seconds until the next may be tried, twice as many each time."""
        self._failures += 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (self._failures - 1))
        self._next_start_at = now + pause
        return pause

    def choose_victims(self, count: int) -> list[Worker]:
        """Who leaves first: those that are starting, then idle ones, then those with least in hand, youngest first."""
        if count <= 0:
            return []

        def cost(worker: Worker) -> tuple[bool, int, float]:
            return worker.ready_at is not None, worker.in_hand, -worker.child.started_at

        return sorted(self.staying, key=cost)[:count]

    def drain(self, worker: Worker) -> None:
        """Tell a worker to take nothing more, finish and leave."""
        worker.drain_deadline = time.monotonic() + self.grace_seconds
        worker.child.terminate()
        self._journal.info("worker_drains", queue=self.queue, worker=worker.host, in_hand=worker.in_hand)

    def replace_start(self, start: StartWorker, *, grace_seconds: float) -> None:
        """Start workers another way from now on; failures of the old way count no longer."""
        self._start, self.grace_seconds = start, grace_seconds
        self._failures, self._next_start_at, self.problem = 0, 0.0, None

    def drain_all(self) -> None:
        """Tell every worker to leave."""
        for worker in self.staying:
            self.drain(worker)

    def kill_all(self) -> None:
        """Stop all at once; what they run is delivered again."""
        for worker in self.workers:
            self._kill(worker)

    @staticmethod
    def _kill(worker: Worker) -> None:
        worker.drain_deadline = worker.drain_deadline or time.monotonic()
        worker.killed = True
        worker.child.kill()
