"""The comparison of scaling rules: its oracle, its judgement, and that its traces stay what they were."""

import pytest
from benchmarks.scaling.measuring import OURS, Row, World, measure_case
from benchmarks.scaling.oracle import plan_pod_seconds
from benchmarks.scaling.tables import build_rule_table, find_faults
from benchmarks.scaling.traces import Case, load_cases, load_unseen_cases

from taskfleet_core.simulation import Summary, Trace


def test_oracle_starts_each_task_in_time_with_the_fewest_pods() -> None:
    trace = Trace("t", [0.0, 0.0, 3.0], [2.0, 2.0, 2.0], 5.0)
    # One slot: the second task waits for the first, the third for the second. 6 s of work, one start-up, one stop.
    assert plan_pod_seconds(trace, 1, 5.0, startup_seconds=4.0) == pytest.approx(6.0 + 4.0 + 2.0)
    # Without patience two pods are needed; the first one stays through the gap of a second.
    assert plan_pod_seconds(trace, 1, 0.0, startup_seconds=4.0) == pytest.approx((5.0 + 6.0) + (2.0 + 6.0))


def test_oracle_lets_a_pod_go_in_a_long_gap() -> None:
    trace = Trace("t", [0.0, 100.0], [1.0, 1.0], 101.0)
    assert plan_pod_seconds(trace, 4, 5.0, startup_seconds=4.0) == pytest.approx(2 * (1.0 + 4.0 + 2.0))


def build_row(rule: str, late: float, cost: float) -> Row:
    return Row("trace", rule, Summary(0.0, 0.0, 0.0, late, 100.0, 1, 1, 1, 0, 0, 0), cost)


def test_missed_bounds_and_better_peers_are_told() -> None:
    good = [build_row("KEDA, documented defaults", 0.5, 2.0), build_row(OURS, 0.001, 1.1)]
    assert find_faults("warm", good) == []
    late = [build_row(OURS, 0.02, 1.1)]
    assert "2.00 % late" in find_faults("warm", late)[0]
    beaten = [build_row("as DS2", 0.0, 1.0), build_row(OURS, 0.0, 1.2)]
    assert "as DS2 scores 1.00, ours 1.20" in find_faults("cold", beaten)[0]


def test_a_measured_case_makes_a_row() -> None:
    case = Case(Trace("small", [1.0, 2.0, 30.0], [1.0, 1.0, 1.0], 60.0), slots=2)
    rows = measure_case(case, World(), [OURS, "KEDA, documented defaults"])
    assert [row.rule for row in rows] == [OURS, "KEDA, documented defaults"]
    assert rows[0].summary.unfinished_tasks == 0
    assert f"**{OURS}**" in build_rule_table(rows)


def test_traces_are_the_same_each_time_and_the_unseen_are_others() -> None:
    first, again, unseen = load_cases(), load_cases(), load_unseen_cases()
    assert len(first) == 13
    assert [case.trace for case in first] == [case.trace for case in again]
    assert not {case.name for case in first} & {case.name for case in unseen}


def test_smooth_load_keeps_the_bounds_of_the_page() -> None:
    """The whole table takes minutes; one trace of each kind guards the rule in the inner loop."""
    cases = {case.name: case for case in [*load_cases(), *load_unseen_cases()]}
    for name, most_late, most_cost in (("nab_AAPL", 0.002, 1.2), ("long", 0.02, 1.15), ("waves", 0.005, 1.8)):
        (row,) = measure_case(cases[name], World(), [OURS])
        assert row.summary.late_share <= most_late, (name, row)
        assert row.cost <= most_cost, (name, row)
        assert row.summary.killed_runs == 0
