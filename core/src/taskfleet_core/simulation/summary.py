"""Runs in figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from taskfleet_core.simulation.model import Run

__all__ = ["Summary", "build_summary", "get_quantile"]


@dataclass(frozen=True, slots=True)
class Summary:
    """One or several runs of a rule on a trace: waits of all tasks together, the rest as means of the runs."""

    wait_p50_seconds: float
    wait_p95_seconds: float
    wait_p99_seconds: float
    late_share: float  # of tasks that waited longer than the target
    pod_seconds: float
    peak_pods: float
    started_pods: float
    changes: float
    killed_runs: float
    lost_seconds: float
    unfinished_tasks: float


def build_summary(runs: Sequence[Run], target_wait_seconds: float) -> Summary:
    """The figures of runs of one trace, at least one."""
    waits = sorted(wait for run in runs for wait in run.waits)
    count = len(runs)
    return Summary(
        wait_p50_seconds=get_quantile(waits, 0.5),
        wait_p95_seconds=get_quantile(waits, 0.95),
        wait_p99_seconds=get_quantile(waits, 0.99),
        late_share=sum(wait > target_wait_seconds for wait in waits) / len(waits) if waits else 0.0,
        pod_seconds=sum(run.pod_seconds for run in runs) / count,
        peak_pods=sum(run.peak for run in runs) / count,
        started_pods=sum(run.starts for run in runs) / count,
        changes=sum(run.changes for run in runs) / count,
        killed_runs=sum(run.killed for run in runs) / count,
        lost_seconds=sum(run.lost_seconds for run in runs) / count,
        unfinished_tasks=sum(run.unfinished for run in runs) / count,
    )


def get_quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ordered values, between two of them in proportion; 0 without any."""
    if not ordered:
        return 0.0
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
