"""One TaskQueue under control: observe, decide, apply, each second. The rule itself is `taskfleet_core.scaling`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from taskfleet.local.journal import Journal
from taskfleet.local.workers import StartWorker, WorkerPool
from taskfleet_core.events import Heartbeat
from taskfleet_core.scaling import Decision, Memory, Observation, ScalingSpec, decide
from taskfleet_core.statistics import QueueStatistics
from taskfleet_core.taskqueue import TaskQueue

__all__ = ["Completions", "QueueController", "build_observation"]

WAKE_SECONDS = 6.0  # a broker's figures may be that old: until then a wake counts as a waiting task


@dataclass(slots=True)
class Completions:
    """Totals of a queue over workers that come and go: heartbeats only tell what each one has done since its start."""

    count: int = 0
    run_seconds: float = 0.0
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, beats: Mapping[str, Heartbeat]) -> None:
        """Take newer totals of each worker into account."""
        for host, beat in beats.items():
            count, seconds = beat["completed"], beat["runtime_seconds_sum"]
            seen_count, seen_seconds = self._seen.get(host, (0, 0.0))
            self.count += max(0, count - seen_count)
            self.run_seconds += max(0.0, seconds - seen_seconds)
        self._seen = {host: (beat["completed"], beat["runtime_seconds_sum"]) for host, beat in beats.items()}


def build_observation(
    at: float,
    statistics: QueueStatistics | None,
    pool: WorkerPool,
    beats: Mapping[str, Heartbeat] | None,
    completions: Completions,
    *,
    woken: bool,
) -> Observation:
    """What the rule may see. Heartbeats that cannot be read leave busy and idle workers unknown."""
    busy = None if beats is None else sum(beat["busy"] for beat in beats.values())
    in_hand = None if beats is None else sum(len(beat["tasks"]) for beat in beats.values())
    ready = statistics.ready if statistics else None
    unacknowledged = statistics.unacknowledged if statistics else None
    if statistics and unacknowledged is None:
        unacknowledged = in_hand  # brokers that only tell what waits
    if woken and ready == 0:
        ready = 1
    return Observation(
        at=at,
        ready=ready,
        unacknowledged=unacknowledged,
        replicas=len(pool.staying),
        ready_replicas=len(pool.ready),
        idle_replicas=None if beats is None else sum(1 for worker in pool.ready if not worker.in_hand),
        busy_slots=busy,
        published=statistics.published if statistics else None,
        completed=completions.count,
        run_seconds_sum=completions.run_seconds,
        startup_seconds=pool.startup_seconds,
    )


class QueueController:
    """Holds what one queue needs between two decisions."""

    def __init__(self, queue: TaskQueue, pool: WorkerPool, journal: Journal) -> None:
        self._journal = journal
        self.queue = queue
        self.pool = pool
        self.statistics: QueueStatistics | None = None
        self.beats: Mapping[str, Heartbeat] | None = None
        self.decision: Decision | None = None
        self.leaving = False  # its TaskQueue is gone: drain and forget
        self.completions = Completions()
        self._memory: Memory | None = None
        self._woken_at = float("-inf")

    @property
    def scales(self) -> bool:
        """Whether its decisions are acted on."""
        return self.queue.spec.scaling.mode == "Active"

    def replace_queue(self, queue: TaskQueue, start: StartWorker) -> None:
        """Take over a changed TaskQueue; another worker or delivery makes the present workers leave."""
        old, new = self.queue, queue
        changed = (new.spec.worker, new.spec.delivery, new.spec.queues) != (
            old.spec.worker,
            old.spec.delivery,
            old.spec.queues,
        )
        self.queue, self.leaving = queue, False
        self.pool.replace_start(start, grace_seconds=queue.spec.worker.effective_grace_seconds)
        if changed:
            self.pool.drain_all()

    def wake(self) -> None:
        """A hint that a task arrived: the broker's figures may not show it yet."""
        self._woken_at = time.monotonic()

    def decide(
        self,
        statistics: QueueStatistics | None,
        beats: Mapping[str, Heartbeat] | None,
        spec: ScalingSpec,
    ) -> Decision:
        """Observe and decide."""
        self.statistics, self.beats = statistics, beats
        if beats is not None:
            self.completions.add(beats)
        self.pool.observe(beats)
        now = time.monotonic()
        woken = now - self._woken_at < WAKE_SECONDS and not self.pool.staying
        observation = build_observation(now, statistics, self.pool, beats, self.completions, woken=woken)
        decision = decide(observation, spec, self._memory)
        self._memory = decision.memory
        return decision

    def apply(self, decision: Decision) -> None:
        """Carry out what was decided, or what a limit of several queues left of it."""
        previous, self.decision = self.decision, decision
        if self.leaving:
            self.pool.drain_all()
            return
        self._tell_change(previous.replicas if previous else 0, decision)
        if self.scales:
            self.pool.scale(decision.replicas)

    def _tell_change(self, before: int, decision: Decision) -> None:
        if decision.replicas != before:
            event = "scaled" if self.scales else "would_scale"
            words = {"workers": f"{before} -> {decision.replicas}", "reason": decision.reason}
            self._journal.info(event, queue=self.queue.queue_name, **words)

    def observe_draining(self, beats: Mapping[str, Heartbeat] | None) -> None:
        """Follow the workers that leave, without deciding anything."""
        own = (
            None if beats is None else {h: beat for h, beat in beats.items() if beat["queue"] == self.queue.queue_name}
        )
        self.beats = own
        self.pool.observe(own)
