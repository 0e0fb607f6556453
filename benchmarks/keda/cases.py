"""One round of each case against one side: plain figures by name, None for what was not waited for."""

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.waiting import eventually_sync

from benchmarks.figures import say
from benchmarks.keda.idle import measure_idle_queues
from benchmarks.keda.loads import Submitted
from benchmarks.keda.peers import Peer, Shape, wait_for_phase
from benchmarks.keda.setting import Setting
from benchmarks.keda.watching import Sightings, watching

__all__ = ["CASES", "Run", "find_runs", "run_case", "share_late"]

Values = dict[str, float | None]
ROUND_SECONDS = 240
BURST_TASKS, BURST_TASK_SECONDS = 200, 0.5
WAVE_SECONDS, WAVES, WAVE_RATE, WAVE_TASK_SECONDS = 20.0, 4, 8.0, 0.5
LATE_SECONDS = 5.0
LONG_TASKS, LONG_TASK_SECONDS = 4, 120.0
SHORT_TASKS, SHORT_TASK_SECONDS = 80, 2.0
LONG_LIMIT_SECONDS = 200.0


@dataclass(frozen=True)
class Run:
    """One run of a task; `ended` is None when its end was never noted. Unix seconds."""

    task_id: str
    pod: str
    started: float
    ended: float | None


def find_runs(notes: Sequence[dict]) -> list[Run]:
    """Pair the starts and ends that tasks noted; a task that was cut off has a start without an end. Pure."""
    ends: dict[tuple[str, str], list[float]] = {}
    for note in notes:
        if note["what"] == "end":
            ends.setdefault((note["id"], note["pod"]), []).append(note["at"])
    runs = []
    for note in notes:
        if note["what"] == "start":
            left = ends.get((note["id"], note["pod"]), [])
            runs.append(Run(note["id"], note["pod"], note["at"], left.pop(0) if left else None))
    return runs


def share_late(sent: dict[str, float], runs: Sequence[Run], late_seconds: float, now: float) -> float:
    """Per cent of tasks that waited longer than that; one that never began has waited until `now`. Pure."""
    first = {run.task_id: run.started for run in reversed(runs)}
    waits = [first.get(task_id, now) - at for task_id, at in sent.items()]
    return 100 * sum(wait > late_seconds for wait in waits) / len(waits)


def _wait_ended(setting: Setting, submitted: Submitted, limit_seconds: float) -> bool:
    """Whether all tasks came to their end within the limit."""
    with contextlib.suppress(AssertionError):
        eventually_sync(lambda: setting.servers.count_ended(submitted) >= len(submitted.sent), limit_seconds, 0.3)
        return True
    return False


def _wait_no_pods(seen: Sightings, limit_seconds: float) -> float:
    """The time at which the last pod was gone."""
    eventually_sync(lambda: not seen.count_present(), limit_seconds, 0.2)
    return max((life.gone or 0.0 for life in seen.pods.values()), default=time.time())


def run_burst(setting: Setting, peer: Peer, queue: str, number: int) -> Values:
    """200 tasks of half a second for a queue without pods."""
    peer.create([queue], Shape())
    submitted = Submitted()
    with watching(setting.cluster, peer.deployment(queue), peer.selector(queue)) as seen:
        wait_for_phase(peer, number, setting.rounds)
        began = time.time()
        peer.submit(queue, [BURST_TASK_SECONDS] * BURST_TASKS, submitted)
        assert _wait_ended(setting, submitted, ROUND_SECONDS), "the burst was not done in time"
        runs = find_runs(setting.servers.read_notes(submitted))
        done = max(run.ended or 0.0 for run in runs)
        values: Values = {
            "first_scale": seen.find_first_scale(began),
            "first_start": min(run.started for run in runs) - began,
            "all_done": done - began,
            "peak": float(max(replicas for _, replicas in seen.replicas)),
            "gone": None,
            "pod_seconds": None,
        }
        if peer.goes_soon:
            last = _wait_no_pods(seen, ROUND_SECONDS)
            values |= {"gone": last - done, "pod_seconds": seen.count_pod_seconds(last)}
    return values


def run_wave(setting: Setting, peer: Peer, queue: str, number: int) -> Values:
    """Eight tasks of half a second each second for 20 s, then none for 20 s, four times."""
    peer.create([queue], Shape(idle_seconds=60 if peer.name == "taskfleet" else 5))
    submitted = Submitted()
    with watching(setting.cluster, peer.deployment(queue), peer.selector(queue)) as seen:
        wait_for_phase(peer, number, setting.rounds)
        began = time.time()
        for wave in range(WAVES):
            for step in itertools.count():
                at = began + wave * 2 * WAVE_SECONDS + step / WAVE_RATE
                if at >= began + (2 * wave + 1) * WAVE_SECONDS:
                    break
                time.sleep(max(0.0, at - time.time()))
                peer.submit(queue, [WAVE_TASK_SECONDS], submitted)
        ends = began + WAVES * 2 * WAVE_SECONDS
        time.sleep(max(0.0, ends - time.time()))
        _wait_ended(setting, submitted, 60)
        runs = find_runs(setting.servers.read_notes(submitted))
        late = share_late(submitted.sent, runs, LATE_SECONDS, time.time())
        peak = float(max(replicas for _, replicas in seen.replicas))
        return {"late": late, "pod_seconds": seen.count_pod_seconds(ends), "peak": peak}


def run_scale_in(setting: Setting, peer: Peer, queue: str, number: int) -> Values:
    """Short tasks bring ten pods; four tasks of two minutes among them go on when the other pods have nothing to do."""
    peer.create([queue], Shape(max_task_seconds=180, grace_seconds=30))
    shorts, longs = Submitted(), Submitted()
    half = [SHORT_TASK_SECONDS] * (SHORT_TASKS // 2)
    with watching(setting.cluster, peer.deployment(queue), peer.selector(queue)) as seen:
        peer.submit(queue, half, shorts)
        peer.submit(queue, [LONG_TASK_SECONDS] * LONG_TASKS, longs)
        peer.submit(queue, half, shorts)
        assert _wait_ended(setting, shorts, ROUND_SECONDS), "the short tasks were not done in time"
        calm = max(run.ended or 0.0 for run in find_runs(setting.servers.read_notes(shorts)))
        busy = {run.pod for run in find_runs(setting.servers.read_notes(longs)) if run.ended is None}
        idle = [life for name, life in seen.pods.items() if name not in busy and (life.gone or calm + 1) > calm]
        _wait_ended(setting, longs, LONG_LIMIT_SECONDS)
        runs = find_runs(setting.servers.read_notes(longs))
        gone = [life.gone for life in idle if life.gone is not None]
        cut = {run: seen.pods[run.pod].gone for run in runs if run.ended is None and run.pod in seen.pods}
        lost = [at - run.started for run, at in cut.items() if at is not None]
        return {
            "idle_pods": float(len(idle)),
            "idle_gone": max(gone) - calm if len(gone) == len(idle) and gone else None,
            "interrupted": float(len(lost)),
            "lost_seconds": sum(lost),
            "finished": float(len({run.task_id for run in runs if run.ended is not None})),
        }


def run_idle(setting: Setting, peer: Peer, queue: str, number: int) -> Values:
    """A hundred new queues with nothing to do."""
    return measure_idle_queues(setting, peer, queue)


CASES: dict[str, Callable[[Setting, Peer, str, int], Values]] = {
    "burst": run_burst,
    "wave": run_wave,
    "scale-in": run_scale_in,
    "idle": run_idle,
}


def run_case(setting: Setting, case: str, peer: Peer, number: int) -> Values:
    """One round on queues of its own, removed afterwards."""
    queue = f"{case}-{peer.name}-{number}".replace("taskfleet", "tf")
    names = [queue]
    try:
        values = CASES[case](setting, peer, queue, number)
    finally:
        if case != "idle":
            peer.delete(names)
    told = ", ".join(f"{key} {value:.2f}" for key, value in values.items() if value is not None)
    say(f"{case} {number}, {peer.title}: {told}")
    return values
