"""A queue and its workers in seconds that are counted, to be scaled by the rule."""

from typing import Any

from taskfleet_core.scaling import Decision, Memory, Observation, ScalingSpec, decide

__all__ = ["SPEC", "Pool", "see"]

SPEC = ScalingSpec(max_replicas=20, slots_per_replica=4, idle_seconds=60)


def see(**fields: Any) -> Observation:
    """An observation of an idle queue without workers, but for `fields`."""
    return Observation(**({"at": 0.0, "ready": 0, "unacknowledged": 0, "replicas": 0} | fields))


class Pool:
    """A queue and its workers in steps of a second: workers start after two, tasks take `run_seconds` each."""

    def __init__(self, spec: ScalingSpec, run_seconds: float = 0.5) -> None:
        self.spec, self.run_seconds = spec, run_seconds
        self.at = 0.0
        self.published = self.completed = self.ready = 0
        self.replicas: list[float] = []  # when each one became wanted
        self.memory: Memory | None = None
        self.wanted: list[int] = []
        self.running: list[float] = []  # end of each running task

    def step(self, arrivals: int) -> Decision:
        """Let a second pass and decide."""
        self.at += 1.0
        self.published += arrivals
        self.ready += arrivals
        live = sum(1 for wanted_at in self.replicas if self.at - wanted_at >= 2)
        part_seconds = 0.05
        for part in range(20):
            now = self.at - 1 + part * part_seconds
            finished = [end for end in self.running if end <= now + 1e-6]
            self.completed += len(finished)
            self.running = [end for end in self.running if end > now + 1e-6]
            free = max(0, live * self.spec.slots_per_replica - len(self.running))
            begun = min(free, self.ready)
            self.ready -= begun
            self.running += [now + self.run_seconds] * begun
        decision = decide(self.observe(live), self.spec, self.memory)
        self.memory = decision.memory
        change = decision.replicas - len(self.replicas)
        self.replicas = self.replicas + [self.at] * change if change > 0 else self.replicas[: decision.replicas]
        self.wanted.append(decision.replicas)
        return decision

    def observe(self, live: int) -> Observation:
        """What broker and workers tell."""
        busy = -(-len(self.running) // self.spec.slots_per_replica)
        return Observation(
            at=self.at,
            ready=self.ready,
            unacknowledged=len(self.running),
            replicas=len(self.replicas),
            ready_replicas=live,
            idle_replicas=max(0, live - busy),
            published=self.published,
            completed=self.completed,
            run_seconds_sum=self.completed * self.run_seconds,
            startup_seconds=2.0,
        )
