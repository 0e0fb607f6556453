"""Rows as Markdown tables, and what they must show."""

import math
from collections.abc import Iterable, Sequence

from benchmarks.scaling.measuring import OURS, Row
from benchmarks.scaling.traces import NEED_A_WARM_MINIMUM, Case

__all__ = ["build_bound_table", "build_rule_table", "build_trace_table", "find_faults"]

MOST_LATE, MOST_COST = 0.005, 1.22


def build_rule_table(rows: Sequence[Row]) -> str:
    """One line per rule: cost, p99 and pods are geometric means over the traces, late a mean, killed a sum."""
    head = (
        "| rule | cost | late, % | without two traces: cost | late, % | p99 wait, s | killed runs | pods started |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    lines = [head]
    for rule in dict.fromkeys(row.rule for row in rows):
        own = [row for row in rows if row.rule == rule]
        most = [row for row in own if row.trace not in NEED_A_WARM_MINIMUM]
        cells = (
            f"**{rule}**" if rule == OURS else rule,
            f"{mean_cost(own):.2f}",
            f"{100 * mean_late(own):.2f}",
            f"{mean_cost(most):.2f}" if most else "-",
            f"{100 * mean_late(most):.2f}" if most else "-",
            f"{get_geometric_mean(max(row.summary.wait_p99_seconds, 0.1) for row in own):.1f}",
            f"{sum(row.summary.killed_runs for row in own):.0f}",
            f"{get_geometric_mean(max(row.summary.started_pods, 1) for row in own):.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def build_trace_table(rows: Sequence[Row], cases: Sequence[Case]) -> str:
    """Our rule, one line per trace."""
    notes = {case.name: f"{case.trace.note}; {len(case.trace.arrivals):,} tasks" for case in cases}
    lines = [
        "| trace | what | cost | late, % | p50 / p95 / p99 wait, s | pods started | most at once |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        summary = row.summary
        waits = f"{summary.wait_p50_seconds:.1f} / {summary.wait_p95_seconds:.1f} / {summary.wait_p99_seconds:.1f}"
        lines.append(
            f"| {row.trace} | {notes[row.trace]} | {row.cost:.2f} | {100 * summary.late_share:.2f} | {waits} | "
            f"{summary.started_pods:.0f} | {summary.peak_pods:.0f} |"
        )
    return "\n".join(lines)


def build_bound_table(rows: Sequence[Row], floors: Sequence[Row]) -> str:
    """What one start-up makes late whatever the rule, beside ours."""
    ours = {row.trace: row.summary for row in rows if row.rule == OURS}
    lines = ["| trace | late at once-for-all, % | late with ours, % |", "|---|--:|--:|"]
    for floor in floors:
        if floor.trace in ours:
            shares = (floor.summary.late_share, ours[floor.trace].late_share)
            lines.append(f"| {floor.trace} | {100 * shares[0]:.1f} | {100 * shares[1]:.1f} |")
    return "\n".join(lines)


def find_faults(name: str, rows: Sequence[Row]) -> list[str]:
    """What ours misses: the bounds with warm starts, being better than every other rule elsewhere."""
    ours = [row for row in rows if row.rule == OURS]
    most = [row for row in ours if row.trace not in NEED_A_WARM_MINIMUM]
    faults = []
    if name == "warm" and most and (mean_late(most) > MOST_LATE or mean_cost(most) > MOST_COST):
        faults.append(f"{name}: {100 * mean_late(most):.2f} % late at a cost of {mean_cost(most):.2f}")
    for rule in dict.fromkeys(row.rule for row in rows if row.rule != OURS):
        peer = [row for row in rows if row.rule == rule]
        if ours and mean_score(ours) >= mean_score(peer):
            faults.append(f"{name}: {rule} scores {mean_score(peer):.2f}, ours {mean_score(ours):.2f}")
    return faults


def mean_cost(rows: Iterable[Row]) -> float:
    """Geometric mean."""
    return get_geometric_mean(row.cost for row in rows)


def mean_late(rows: Sequence[Row]) -> float:
    """Arithmetic mean of the shares."""
    return sum(row.summary.late_share for row in rows) / len(rows)


def mean_score(rows: Iterable[Row]) -> float:
    """Geometric mean of cost plus one for every 10 % of late tasks."""
    return get_geometric_mean(row.cost + 10.0 * row.summary.late_share for row in rows)


def get_geometric_mean(values: Iterable[float]) -> float:
    """Of positive values."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))
