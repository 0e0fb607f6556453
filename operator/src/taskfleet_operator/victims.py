"""Which pods leave when there are too many. Pure.

A ReplicaSet removes pods that are not Ready first, busy ones included, and looks at deletion costs only among Ready
pods. So victims are fenced first (they stop taking tasks), and nothing leaves while a busy pod is not Ready.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taskfleet_core.events import Heartbeat
from taskfleet_operator.observed import PodFacts

__all__ = ["Selection", "build_costs", "select_victims"]

IDLE_COST = -1000
BUSY_COST = 100  # per task in hand


@dataclass(frozen=True, slots=True)
class Selection:
    """Who shall leave. `ready_to_leave` says whether all of them have stopped taking tasks."""

    victims: tuple[PodFacts, ...]
    ready_to_leave: bool
    reason: str = ""


def select_victims(
    pods: Sequence[PodFacts], heartbeats: Iterable[Heartbeat], count: int, fenced: frozenset[str], *, may_be_busy: bool
) -> Selection:
    """Choose `count` pods: starting ones first, then idle, then the emptiest; the youngest of equals.

    `may_be_busy` says that a pod may leave with running tasks because its grace period covers them.
    """
    beats = {beat.get("pod_uid", ""): beat for beat in heartbeats}
    alive = [pod for pod in pods if not pod.is_terminating]
    if any(not pod.is_ready and _get_busy(beats, pod) for pod in alive):
        return Selection((), False, "a busy pod is not Ready and would be removed first")
    ranked = sorted(alive, key=lambda pod: (_rank(beats, pod, fenced), -pod.created_at.timestamp()))
    victims = tuple(pod for pod in ranked[:count] if may_be_busy or not _get_busy(beats, pod))
    # Kubernetes removes every pod that is not Ready before any Ready one: leave none of them out.
    starting = [pod for pod in alive if not pod.is_ready and pod not in victims]
    if starting and any(pod.is_ready for pod in victims):
        return Selection((), False, f"{len(starting)} pods are starting and would be removed first")
    stopped = all(_has_stopped(beats, pod, fenced) for pod in victims)
    return Selection(victims, stopped, "" if stopped else "waiting for victims to stop taking tasks")


def build_costs(
    pods: Iterable[PodFacts], heartbeats: Iterable[Heartbeat], victims: Sequence[PodFacts]
) -> dict[str, int]:
    """Deletion costs by pod name, only where they differ from what is there."""
    beats = {beat.get("pod_uid", ""): beat for beat in heartbeats}
    leaving = {pod.uid for pod in victims}
    wanted = {
        pod: IDLE_COST if pod.uid in leaving else _get_busy(beats, pod) * BUSY_COST
        for pod in pods
        if not pod.is_terminating
    }
    return {pod.name: cost for pod, cost in wanted.items() if (pod.deletion_cost or 0) != cost}


def _get_busy(beats: dict[str, Heartbeat], pod: PodFacts) -> int:
    beat = beats.get(pod.uid)
    return beat["busy"] if beat else 0


def _rank(beats: dict[str, Heartbeat], pod: PodFacts, fenced: frozenset[str]) -> tuple[int, int]:
    if not pod.is_ready or pod.uid not in beats:
        return (0, 0)
    return (1 if pod.uid in fenced else 2, 0) if not _get_busy(beats, pod) else (3, _get_busy(beats, pod))


def _has_stopped(beats: dict[str, Heartbeat], pod: PodFacts, fenced: frozenset[str]) -> bool:
    beat = beats.get(pod.uid)
    return beat is None or (pod.uid in fenced and not beat["consuming"])
