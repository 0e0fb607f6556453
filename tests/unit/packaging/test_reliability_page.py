"""The page of the kill matrix: a broken promise is seen in it, and a partial run keeps the other cells."""

from pathlib import Path

from hack.generate_reliability import build_row
from tests.faults.results import Cell, Place, read_results, save_cells


def build_cell(fault: str, **found: object) -> Cell:
    counts = {"accepted": 10, "executed": 10, "lost": 0, "untold": 0, "strays": 0, "unexpected": 0}
    return Cell(fault, "API", Place.LOCAL, **{**counts, "states": {"succeeded": 10}, **found})  # type: ignore[arg-type]


def test_a_lost_task_is_bold() -> None:
    assert "| 10 | 0 | 10 succeeded | none |" in build_row(build_cell("kill"))
    assert "| **1 lost, 2 succeeded without a run** |" in build_row(build_cell("kill", lost=1, untold=2))
    assert "| 2 **unexplained** |" in build_row(build_cell("kill", duplicates={"unexplained": 2}))


def test_a_cell_holds_only_without_what_nobody_explains() -> None:
    assert build_cell("kill", duplicates={"redelivered": 3}, interrupted=1, refused=9).holds
    assert not build_cell("kill", duplicates={"unexplained": 1}).holds
    assert not any(build_cell("kill", **{name: 1}).holds for name in ("lost", "untold", "strays", "unexpected"))


def test_a_partial_run_keeps_the_other_cells_in_their_order(tmp_path: Path) -> None:
    def save(*cells: Cell) -> None:
        save_cells(Place.LOCAL, cells, command="c", machine="m", order=("a", "b"), folder=tmp_path)

    save(build_cell("b"), build_cell("gone"))
    save(build_cell("a", refused=5))
    results = read_results(Place.LOCAL, tmp_path)
    assert results is not None
    assert [(cell.fault, cell.refused) for cell in results.cells] == [("a", 5), ("b", 0)]
    assert results.cells[0].place is Place.LOCAL
