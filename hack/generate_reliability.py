"""Writes docs/reliability.md from the results of the kill matrix; `--check` says whether it is up to date."""

import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hack.generated import keep_files  # noqa: E402 - from the root of the repository
from tests.faults.results import UNEXPLAINED, Cell, Place, Results, read_results  # noqa: E402 - from the root of the repository

PAGE = ROOT / "docs" / "reliability.md"
TITLES = {Place.LOCAL: "One machine", Place.CLUSTER: "Kubernetes, one node"}
HEAD = (
    "| Fault | Accepted | Lost | Final states | Second runs, and why | Cut short | Refused | Recovery | Settled |\n"
    "|---|--:|--:|---|---|--:|--:|--:|--:|"
)


def build_tables(results: Results) -> str:
    """A table for each part that was struck."""
    parts = dict.fromkeys(cell.part for cell in results.cells)
    tables = [f"`{results.command}`, {results.machine}"]
    for part in parts:
        rows = [build_row(cell) for cell in results.cells if cell.part == part]
        tables.append("\n".join([f"### {part}", "", HEAD, *rows]))
    notes = [f"- {cell.fault}: {cell.note}" for cell in results.cells if cell.note]
    return "\n\n".join([*tables, *(["Notes:\n\n" + "\n".join(notes)] if notes else [])])


def build_row(cell: Cell) -> str:
    """One cell of the matrix as a line; what breaks the promise is bold."""
    wrong = {
        "lost": cell.lost,
        "succeeded without a run": cell.untold,
        "not told": cell.strays,
        "in an unexpected state": cell.unexpected,
    }
    lost = "0" if not any(wrong.values()) else "**" + ", ".join(f"{n} {what}" for what, n in wrong.items() if n) + "**"
    seed = "" if cell.seed is None else f" (seed {cell.seed})"
    cells = (
        cell.fault + seed,
        f"{cell.accepted:,}",
        lost,
        _counts(cell.states.items()),
        _counts((f"**{cause}**" if cause == UNEXPLAINED else cause, n) for cause, n in cell.duplicates.items())
        or "none",
        f"{cell.interrupted:,}",
        f"{cell.refused:,}",
        _seconds(cell.recovery_seconds),
        _seconds(cell.settled_seconds),
    )
    return "| " + " | ".join(cells) + " |"


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return "; ".join(f"{count:,} {name}" for name, count in sorted(counts, key=lambda each: -each[1]))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def build_page(page: str) -> str:
    """The page with its tables and their verdict replaced; the prose between them stays."""
    found = {place: read_results(place) for place in Place}
    for place, results in found.items():
        tables = f"## {TITLES[place]}\n\n{build_tables(results)}\n" if results else ""
        page = _replace(page, str(place), f"\n{tables}")
    cells = [cell for results in found.values() if results for cell in results.cells]
    broken = sum(not cell.holds for cell in cells)
    return _replace(page, "verdict", f"{broken or 'none'} of the {len(cells)} cells")


def _replace(page: str, mark: str, text: str) -> str:
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    head, rest = page.split(begin, 1)
    return f"{head}{begin}{text}{end}{rest.split(end, 1)[1]}"


def main() -> int:
    """Write the page, or compare it."""
    return keep_files({PAGE: build_page(PAGE.read_text())})


if __name__ == "__main__":
    sys.exit(main())
