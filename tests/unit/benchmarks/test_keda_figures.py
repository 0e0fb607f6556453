"""What the comparison with KEDA makes of notes, watches and rounds."""

import pytest
from benchmarks.keda.cases import Run, find_runs, share_late
from benchmarks.keda.tables import Round, append_round, build_tables, find_misses, read_rounds
from benchmarks.keda.watching import Sightings


def note(task_id: str, pod: str, what: str, at: float) -> dict:
    """One line as a task writes it."""
    return {"id": task_id, "pod": pod, "what": what, "at": at}


def make_round(peer: str, number: int, load: float = 1.0, case: str = "burst", **values: float | None) -> Round:
    """One round."""
    return Round(case, peer, peer.upper(), number, load, values)


def test_a_run_without_its_end_is_told_from_its_repetition():
    """A task that was cut off on one pod and finished on another ran twice, and once to its end."""
    notes = [
        note("t", "a", "start", 1.0),
        note("u", "a", "start", 2.0),
        note("u", "a", "end", 3.0),
        note("t", "b", "start", 40.0),
        note("t", "b", "end", 160.0),
    ]
    assert find_runs(notes) == [Run("t", "a", 1.0, None), Run("u", "a", 2.0, 3.0), Run("t", "b", 40.0, 160.0)]


def test_a_task_that_never_began_is_late():
    """Its wait counts until now; a repeated task waited until its first start."""
    sent = {"quick": 0.0, "late": 0.0, "repeated": 0.0, "never": 1.0}
    runs = [Run("quick", "a", 5.0, 6.0), Run("late", "a", 5.1, 6.0), Run("repeated", "a", 1.0, None)]
    runs.append(Run("repeated", "b", 30.0, 31.0))
    assert share_late(sent, runs, 5.0, now=10.0) == pytest.approx(50.0)


def test_pod_seconds_count_leaving_pods_until_they_are_gone():
    """A pod that still exists counts until the end of the window; one that came after it does not count."""
    seen = Sightings()
    for line, at in (
        ("ADDED a ", 10.0),
        ("MODIFIED a ", 11.0),
        ("ADDED b ", 12.0),
        ("MODIFIED a 2026-11-22T10:00:00Z", 20.0),
        ("DELETED a 2026-11-22T10:00:00Z", 25.0),
        ("ADDED c ", 50.0),
    ):
        seen.note_pod(line, at)
    assert seen.count_pod_seconds(until=30.0) == pytest.approx(15.0 + 18.0)
    assert seen.count_present() == 2


def test_the_first_scale_up_is_counted_from_the_submission():
    """What the watch said before, and zeros, are no scale-up."""
    seen = Sightings(replicas=[(9.0, 3), (10.0, 0), (10.4, 1), (11.0, 10)])
    assert seen.find_first_scale(10.0) == pytest.approx(0.4)
    assert Sightings(replicas=[(1.0, 0)]).find_first_scale(0.0) is None


def test_the_table_tells_medians_rounds_load_and_missed_bounds():
    """Only Taskfleet's cells can miss; what was not waited for is a dash."""
    rounds = [
        make_round("taskfleet", 1, 1.5, first_scale=0.1, all_done=13.0, gone=6.0, pod_seconds=150.0),
        make_round("taskfleet", 2, 9.0, first_scale=0.3, all_done=14.0, gone=7.0, pod_seconds=170.0),
        make_round("keda-amqp", 1, 2.0, first_scale=6.0, all_done=20.0, gone=None, pod_seconds=None),
    ]
    table = build_tables(rounds)
    own = next(line for line in table.splitlines() if line.startswith("| TASKFLEET"))
    peer = next(line for line in table.splitlines() if line.startswith("| KEDA-AMQP"))
    assert "| 0.20 (0.10 - 0.30) |" in own
    assert "**13.5 (13.0 - 14.0)**" in own
    assert own.endswith("| 2 | 1.5 - 9.0 |")
    assert "**" not in peer
    assert "| - | - | 1 | 2.0 - 2.0 |" in peer
    assert find_misses(rounds) == ["burst: all done, s"]


def test_a_bound_on_what_never_happened_is_missed():
    """Idle pods that never went are no pass."""
    rounds = [make_round("taskfleet", 1, case="scale-in", idle_gone=None, interrupted=0.0, lost_seconds=0.0)]
    assert find_misses(rounds) == ["scale-in: idle pods gone after, s"]


def test_rounds_survive_the_file(tmp_path):
    """A run that is cut short keeps what it measured."""
    path = tmp_path / "results.jsonl"
    assert read_rounds(path) == []
    rounds = [make_round("taskfleet", 1, gone=None), make_round("keda-http", 1, all_done=25.5)]
    for done in rounds:
        append_round(path, done)
    assert read_rounds(path) == rounds
