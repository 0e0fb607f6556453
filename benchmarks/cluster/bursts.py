"""How soon a sleeping queue reacts to a burst, and when everything is done and gone again."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.cluster import Cluster, build_queue
from tests.support.noted_runs import Load
from tests.support.waiting import eventually_sync

from benchmarks.figures import Figure, say

__all__ = ["Burst", "burst_queue", "measure_burst", "measure_bursts"]

TASKS = 200
TASK_SECONDS = 0.5
IDLE_SECONDS = 5
ROUND_SECONDS = 180


@dataclass
class Burst:
    """One round; seconds since the submission was sent."""

    first_scale: float = 0.0
    first_start: float = 0.0
    all_done: float = 0.0
    asleep: float = 0.0
    peak: int = 0


@dataclass
class _Watch:
    """The replicas that a Deployment is asked for, each with the time at which a watch told of it."""

    seen: list[tuple[float, int]] = field(default_factory=list)


@contextmanager
def _watching(cluster: Cluster, name: str) -> Iterator[_Watch]:
    watch = _Watch()
    command = ["kubectl", "-n", cluster.namespace, "get", "deployment", f"{name}-worker", "-w"]
    command += ["-o", 'jsonpath={.spec.replicas}{"\\n"}']
    with subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True) as process:

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                watch.seen.append((time.time(), int(line or 0)))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            eventually_sync(lambda: watch.seen, 30)
            yield watch
        finally:
            process.terminate()
            reader.join(5)


def burst_queue(name: str) -> dict:
    """The queue of the bursts."""
    scaling = {"maxReplicas": 3, "idleSeconds": IDLE_SECONDS}
    return build_queue(name, scaling, concurrency=10, maxTaskSeconds=60)


def measure_burst(cluster: Cluster, name: str, tasks: int = TASKS) -> Burst:
    """One round on a queue that is asleep."""
    cluster.wait_asleep(name, ROUND_SECONDS)
    result = Burst()
    with _watching(cluster, name) as watch:
        load = Load()
        began = time.time()
        cluster.submit(name, tasks, TASK_SECONDS, load)
        states = cluster.wait_done(load, ROUND_SECONDS)
        assert states == {"succeeded": tasks}, states
        notes = _read_times(cluster, load)
        cluster.wait_asleep(name, ROUND_SECONDS)
        result.asleep = time.time() - max(notes["end"])
        result.first_scale = next(at for at, replicas in watch.seen if replicas) - began
        result.peak = max(replicas for _, replicas in watch.seen)
    result.first_start = min(notes["start"]) - began
    result.all_done = max(notes["end"]) - began
    return result


def _read_times(cluster: Cluster, load: Load) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"start": [], "end": []}
    for note in cluster.read_notes(load):
        times[note["what"]].append(note["at"])
    return times


def measure_bursts(cluster: Cluster, rounds: int) -> list[Figure]:
    """The figures of several rounds."""
    name = cluster.apply(burst_queue("bench-burst"))
    results = []
    for number in range(1, rounds + 1):
        result = measure_burst(cluster, name)
        results.append(result)
        say(
            f"burst {number}: replicas change after {result.first_scale:.2f} s, first task started after "
            f"{result.first_start:.2f} s, all done after {result.all_done:.1f} s with up to {result.peak} pods, "
            f"no pod {result.asleep:.1f} s after the last task"
        )
    cluster.delete(name)
    what = f"burst of {TASKS} x {TASK_SECONDS} s"
    return [
        Figure(f"{what}: first change of replicas", "s", [r.first_scale for r in results], at_most=1, digits=2),
        Figure(f"{what}: first task started", "s", [r.first_start for r in results], at_most=4, digits=2),
        Figure(f"{what}: all done", "s", [r.all_done for r in results], at_most=15, digits=1),
        Figure(
            "no pods after the last task",
            "s",
            [r.asleep for r in results],
            digits=1,
            note=f"idleSeconds {IDLE_SECONDS}",
        ),
        Figure("pods at the peak", "pods", [float(r.peak) for r in results]),
    ]
