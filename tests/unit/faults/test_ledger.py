"""The account after a fault: which runs are second ones, what is lost, and what only looks so."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.ledger import Cause, Ending, Run, read_ledger, reconcile


def build_run(task: str = "a", ending: Ending = Ending.DONE, **facts: Any) -> Run:
    told = {"id": task, "pid": 1, "at": 0.0, "attempt": 1, "republished": False, "redelivered": False, **facts}
    return Run(**told, ending=ending)


def find_duplicates(*runs: Run) -> dict[Cause, int]:
    return dict(reconcile(["a"], {"a": {"state": "succeeded"}}, runs).duplicates)


@pytest.mark.parametrize(
    ("second", "cause"),
    [
        pytest.param({}, Cause.UNEXPLAINED, id="nothing says why"),
        pytest.param({"redelivered": True}, Cause.REDELIVERED, id="redelivered"),
        pytest.param({"republished": True}, Cause.REPUBLISHED, id="published again"),
        pytest.param({"attempt": 2}, Cause.NEXT_ATTEMPT, id="an attempt that nobody asked for"),
    ],
)
def test_a_second_run_has_the_cause_that_its_message_names(second: dict[str, Any], cause: Cause) -> None:
    assert find_duplicates(build_run(), build_run(**second)) == {cause: 1}


def test_retries_that_the_task_asked_for_are_no_second_runs() -> None:
    assert find_duplicates(build_run(ending=Ending.AGAIN), build_run(attempt=2)) == {}
    assert find_duplicates(build_run(ending=Ending.AGAIN), build_run(retries=1)) == {}
    assert find_duplicates(build_run(ending=Ending.AGAIN), build_run(retries=1), build_run(retries=1)) == {
        Cause.UNEXPLAINED: 1
    }


def test_what_breaks_the_promise_is_found() -> None:
    states = {"open": "running", "untold": "succeeded", "failed": "failed", "stray": "succeeded", "taken": "cancelled"}
    records = {name: {"state": state} for name, state in states.items()}
    account = reconcile(
        ["gone", "open", "untold", "failed", "taken"],
        records,
        [build_run("failed"), build_run("open", Ending.INTERRUPTED)],
        {"taken": {"cancelled"}},
    )
    assert (account.lost, account.untold, account.strays) == (("gone", "open"), ("untold",), ("stray",))
    assert (account.unexpected, account.interrupted, account.executed) == (("failed",), 1, 2)


def test_a_run_without_its_last_line_was_cut_short(tmp_path: Path) -> None:
    begun = {"id": "a", "at": 0.0, "attempt": 1, "republished": False, "redelivered": False, "retries": 0}
    lines = [{**begun, "pid": 1}, {**begun, "pid": 2}, {"ended": "a", "pid": 2, "again": True}]
    (tmp_path / "ledger").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [run.ending for run in read_ledger(tmp_path / "ledger")] == [Ending.INTERRUPTED, Ending.AGAIN]
