"""What a simulation takes and gives. Times are seconds from the start of the trace."""

import math
import random
from dataclasses import dataclass, field
from typing import Literal, Protocol

from taskfleet_core.scaling import Observation

__all__ = ["Conditions", "Run", "Scaler", "Startup", "StartupProfile", "StartupTimes", "Trace"]

StartupProfile = Literal["warm", "cold", "node"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Tasks as they came: when, and how long each ran. Both sequences are in order of arrival."""

    name: str
    arrivals: list[float]
    run_seconds: list[float]
    horizon: float  # the pool is paid for at least until then
    note: str = ""

    def count_first_pods(self, slots: int) -> int:
        """For the load of the first minute: a trace cut from a running system does not begin with nothing."""
        work = sum(run for at, run in zip(self.arrivals, self.run_seconds, strict=True) if at < 60.0)
        pods = work / 60.0 / slots
        return math.ceil(pods) if pods > 0.5 else 0


class Startup(Protocol):
    """How long pods take from being asked for until they consume."""

    def draw(self, at: float, pods: int, chance: random.Random) -> float:
        """Seconds until a pod that is created `at` consumes; `pods` exist then, this one counted."""
        ...


@dataclass(frozen=True, slots=True)
class Conditions:
    """The world around the rule."""

    slots: int = 4  # tasks that one pod runs at once
    startup: Startup | None = None  # None: `StartupTimes()`
    grace_seconds: float = 30.0  # between SIGTERM and SIGKILL of a leaving pod
    stop_seconds: float = 2.0  # that a pod is paid for after its last task
    idle_first: bool = True  # victims: idle pods first, as Taskfleet and pod deletion costs do; else by chance
    statistics_seconds: float = 0.0  # age that the broker's figures may have
    min_replicas: int = 0
    max_replicas: int = 100
    initial_replicas: int = 0  # ready when the trace begins
    drain_seconds: float = 7200.0  # that tasks may take after the horizon before they count as unfinished


@dataclass(slots=True)
class StartupTimes:
    """Start-up times of pods: `warm` on a node that has the image, `cold` with an image pull, `node` mixed.

    With `node`, pods beyond `fits` need a new node and a pull; nodes stay for `keep_seconds` after their last use.
    """

    profile: StartupProfile = "warm"
    warm_seconds: float = 4.0
    cold_seconds: float = 20.0
    node_seconds: float = 60.0
    sigma: float = 0.25  # of the logarithm
    fits: int = 12
    keep_seconds: float = 600.0
    _capacity: int = field(default=0, repr=False)
    _capacity_until: float = field(default=-1.0, repr=False)

    def draw(self, at: float, pods: int, chance: random.Random) -> float:
        """See `Startup.draw`."""
        jitter = math.exp(chance.gauss(0.0, self.sigma))
        if self.profile == "warm":
            return self.warm_seconds * jitter
        if self.profile == "cold":
            return self.cold_seconds * jitter
        capacity = self._capacity if at < self._capacity_until else self.fits
        if pods > self.fits:
            self._capacity_until = at + self.keep_seconds
        if pods <= capacity:
            return self.warm_seconds * jitter
        self._capacity = pods
        return self.node_seconds * math.exp(chance.gauss(0.0, 0.1)) + self.cold_seconds * jitter


class Scaler(Protocol):
    """A rule, asked every `interval_seconds`."""

    interval_seconds: float

    def decide(self, seen: Observation) -> int:
        """The replicas to ask for."""
        ...


@dataclass(slots=True)
class Run:
    """What happened."""

    waits: list[float]  # seconds from arrival to the start of the run that finished, by task
    pod_seconds: float
    killed: int  # task runs that were killed, and run again
    lost_seconds: float  # run time of those
    changes: int  # of the replicas asked for
    starts: int  # pods created
    peak: int  # most pods at once, leaving ones counted
    unfinished: int
    end: float
    first_replicas: int
    timeline: list[tuple[float, int]]  # (moment, replicas asked for) at each change
