"""What goes into a scaling decision and what comes out of it. Plain data: no clock, no client, no logger."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Cause", "Decision", "Memory", "Observation", "Pace", "ScalingSpec", "Terms", "Window"]

Window = tuple[tuple[float, int], ...]  # (moment, value), oldest first


class Cause(StrEnum):
    """Why a decision is what it is: stable names for metrics and conditions."""

    UNKNOWN = "unknown"
    PINNED = "pinned"
    BACKLOG = "backlog"
    LOAD = "load"
    DEPTH = "depth"
    HELD = "held"
    BUSY = "busy"
    PACED = "paced"
    IDLE = "idle"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    FLEET = "fleet"  # a limit of several queues: see fleet.py


@dataclass(frozen=True, slots=True)
class Pace:
    """The most that replicas may change in one direction within any period."""

    replicas: int
    period_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class ScalingSpec:
    """What the user asked for, in plain numbers."""

    min_replicas: int = 0
    max_replicas: int = 50
    target_wait_seconds: float = 5.0
    target_queue_depth: int | None = None  # set: the classic rule, messages per replica
    idle_seconds: float = 60.0
    pinned_replicas: int | None = None  # set: fixed, whatever the queue holds
    slots_per_replica: int = 1
    max_task_seconds: float = 3600.0
    grace_seconds: float = 3600.0
    interval_seconds: float = 1.0  # between two decisions
    scale_up: Pace | None = None  # None: as fast as needed
    scale_down: Pace | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What broker and workers tell. None means unknown, never zero. Counters only grow; a smaller one was reset."""

    at: float  # seconds, any clock that only moves forward
    ready: int | None
    unacknowledged: int | None
    replicas: int  # asked for last
    ready_replicas: int = 0  # consuming
    idle_replicas: int | None = None  # consuming and without a task
    busy_slots: int | None = None  # by heartbeats; fresher than the broker's unacknowledged
    published: int | None = None  # broker counter; None: arrivals are told from depth and completions
    completed: int = 0  # tasks finished by workers of this queue so far, all outcomes
    run_seconds_sum: float = 0.0  # ... and their run time
    slow_share: float | None = None  # share of completed tasks that ran longer than a third of the grace period
    startup_seconds: float | None = None  # asked for until first heartbeat, averaged


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of one decision, for people and metrics. Slots unless the name says otherwise."""

    run_seconds: float = 0.0  # mean run time of a task
    startup_seconds: float = 0.0  # from asking for a replica until it takes tasks
    arrivals_per_second: float = 0.0
    load_slots: float = 0.0  # busy when a replica asked for now is ready
    safety_slots: float = 0.0  # spare, against chance
    backlog_slots: float = 0.0  # to start what waits in time; load with safety, or this: the larger one counts
    wait_seconds: float | None = None  # expected for the last task in the queue with the workers that are ready
    need_replicas: int = 0  # before holds and bounds
    held_replicas: int = 0  # after holds, before bounds


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decision leaves for the next one. Start with None; losing it costs seconds of precision, no safety."""

    spec: ScalingSpec
    at: float
    published: int | None
    completed: int
    run_seconds_sum: float
    tasks_in_queue: int
    completions: float = 0.0  # decayed
    run_seconds: float = 0.0  # decayed
    fast_rate: float = 0.0
    slow_rate: float = 0.0

    needs: Window = ()
    loads: Window = ()
    lows: Window = ()  # replicas of the last period of spec.scale_up, rising minima
    highs: Window = ()  # replicas of the last period of spec.scale_down, falling maxima
    task_seen_at: float = 0.0
    arrived_at: float = 0.0
    completion_seen_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas to ask for, and why."""

    replicas: int
    cause: Cause
    reason: str
    terms: Terms
    memory: Memory | None
