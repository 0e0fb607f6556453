"""What knowing the future would cost: near-minimal pod-seconds with every wait within the target.

Each task goes, in order of arrival, to the lowest-numbered slot that is free by its deadline, so that high slots
drain. A pod is created one start-up before its first task, stays through gaps shorter than a restart, and takes the
stop time to end. The cheapest of three budgets for waiting is kept.
"""

from taskfleet_core.simulation import Trace

__all__ = ["plan_pod_seconds"]

NEVER = float("-inf")


def plan_pod_seconds(
    trace: Trace, slots: int, target_wait_seconds: float, startup_seconds: float, stop_seconds: float = 2.0
) -> float:
    """The pod-seconds of the plan."""
    restart = startup_seconds + stop_seconds
    budgets = (0.0, target_wait_seconds / 2, target_wait_seconds)
    return min(_price(_assign(trace, budget), slots, restart) for budget in budgets)


def _assign(trace: Trace, budget: float) -> list[list[tuple[float, float]]]:
    """Busy times by slot."""
    free: list[float] = []
    busy: list[list[tuple[float, float]]] = []
    for arrival, seconds in zip(trace.arrivals, trace.run_seconds, strict=True):
        limit = arrival + budget
        number = next((number for number, moment in enumerate(free) if moment <= limit), len(free))
        if number == len(free):
            free.append(NEVER)
            busy.append([])
        start = max(arrival, free[number])
        free[number] = start + seconds
        busy[number].append((start, start + seconds))
    return busy


def _price(busy: list[list[tuple[float, float]]], slots: int, restart: float) -> float:
    total = 0.0
    for first in range(0, len(busy), slots):
        spans = sorted(span for slot in busy[first : first + slots] for span in slot)
        begin, end = spans[0]
        for start, stop in spans[1:]:
            if start - end > restart:
                total += end - begin + restart
                begin = start
            end = max(end, stop)
        total += end - begin + restart
    return total
