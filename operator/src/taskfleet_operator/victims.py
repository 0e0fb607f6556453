"""Which pods leave when there are too many. Pure.

A ReplicaSet removes pods that are not Ready first, busy ones included, and looks at deletion costs only among Ready
pods. So victims are fenced first: they stop taking tasks, and each leaves once it holds none, or at once where the
grace period covers what it holds. Nothing leaves while a busy pod is not Ready.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taskfleet_core.events import Heartbeat
from taskfleet_operator.observed import PodFacts

__all__ = ["Selection", "build_costs", "select_victims"]

IDLE_COST = -1000
BUSY_COST = 100  # per task in hand
SILENT_COST = 10_000  # what it holds is not known

_Rank = tuple[int, int, bool]


@dataclass(frozen=True, slots=True)
class Selection:
    """Who shall leave: `victims` take no new tasks, `leaving` are those of them that may be removed now."""

    victims: tuple[PodFacts, ...] = ()
    leaving: tuple[PodFacts, ...] = ()
    reason: str = ""


def select_victims(
    pods: Sequence[PodFacts],
    heartbeats: Iterable[Heartbeat],
    count: int,
    fenced: frozenset[str],
    *,
    may_be_busy: bool,
    silent: frozenset[str] = frozenset(),
) -> Selection:
    """Choose `count` pods: starting ones first, then idle, then the emptiest; the youngest of equals.

    `may_be_busy` says that a pod may leave with running tasks because its grace period covers them. `silent` are pods
    whose workers spoke and do so no more: what they hold is unknown, and unknown is not nothing.
    """
    beats = {beat.get("pod_uid", ""): beat for beat in heartbeats}
    alive = [pod for pod in pods if not pod.is_terminating]
    if any(not pod.is_ready and _get_busy(beats, pod) for pod in alive):
        return Selection(reason="a busy pod is not Ready and would be removed first")
    ranked = sorted(alive, key=lambda pod: (_rank(beats, pod, fenced, silent), -pod.created_at.timestamp()))
    victims = tuple(pod for pod in ranked[:count] if may_be_busy or not _is_silent(pod, silent))
    leaving = tuple(pod for pod in victims if _may_leave(beats, pod, fenced, may_be_busy=may_be_busy))
    # Kubernetes removes every pod that is not Ready before any Ready one: leave none of them out.
    starting = [pod for pod in alive if not pod.is_ready and pod not in leaving]
    if starting and any(pod.is_ready for pod in leaving):
        return Selection(victims, reason=f"{len(starting)} pods are starting and would be removed first")
    waits = len(victims) - len(leaving)
    reason = f"pods about to leave that take no new tasks and finish theirs: {waits}" if waits else ""
    if len(victims) < min(count, len(alive)):
        reason = "workers that are silent stay"
    return Selection(victims, leaving, reason)


def build_costs(
    pods: Iterable[PodFacts],
    heartbeats: Iterable[Heartbeat],
    leaving: Sequence[PodFacts],
    silent: frozenset[str] = frozenset(),
) -> dict[str, int]:
    """Deletion costs by pod name, only where they differ from what is there."""
    beats = {beat.get("pod_uid", ""): beat for beat in heartbeats}
    gone = {pod.uid for pod in leaving}
    wanted = {pod: _cost(beats, pod, silent) for pod in pods if not pod.is_terminating}
    wanted |= {pod: IDLE_COST for pod in wanted if pod.uid in gone}
    return {pod.name: cost for pod, cost in wanted.items() if (pod.deletion_cost or 0) != cost}


def _cost(beats: dict[str, Heartbeat], pod: PodFacts, silent: frozenset[str]) -> int:
    return SILENT_COST if _is_silent(pod, silent) else _get_busy(beats, pod) * BUSY_COST


def _get_busy(beats: dict[str, Heartbeat], pod: PodFacts) -> int:
    beat = beats.get(pod.uid)
    return beat["busy"] if beat else 0


def _is_silent(pod: PodFacts, silent: frozenset[str]) -> bool:
    # A pod that is not Ready has no running worker, or its node is lost: the broker has its tasks back.
    return pod.is_ready and pod.uid in silent


def _rank(beats: dict[str, Heartbeat], pod: PodFacts, fenced: frozenset[str], silent: frozenset[str]) -> _Rank:
    if _is_silent(pod, silent):
        return 4, 0, False
    beat = beats.get(pod.uid)
    if not pod.is_ready or beat is None:
        return 0, 0, False
    busy, is_fenced = beat["busy"], pod.uid in fenced
    # Until a fenced worker says that it has stopped, what it holds is not its last word: choosing anew each second
    # among workers with short tasks would fence in turns and remove nobody.
    if is_fenced and (beat["consuming"] or not busy):
        return 1, 0, False
    return (3, busy, not is_fenced) if busy else (2, 0, False)


def _may_leave(beats: dict[str, Heartbeat], pod: PodFacts, fenced: frozenset[str], *, may_be_busy: bool) -> bool:
    beat = beats.get(pod.uid)
    if beat is None:
        return True
    return pod.uid in fenced and not beat["consuming"] and (may_be_busy or not beat["busy"])
