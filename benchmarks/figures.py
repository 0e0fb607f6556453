"""Figures of one run and the Markdown table that they make."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Figure", "build_table", "describe_machine", "say", "write_page"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Figure:
    """One line of the table: a value per round, and what it must at least (or at most) be."""

    name: str
    unit: str
    values: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""
    digits: int = 0
    median: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "median", statistics.median(self.values))

    @property
    def is_met(self) -> bool | None:
        """Whether the median keeps its bound; None without one."""
        if self.at_least is not None:
            return self.median >= self.at_least
        if self.at_most is not None:
            return self.median <= self.at_most
        return None

    def row(self) -> str:
        """The line in Markdown."""
        bound = ""
        if self.at_least is not None:
            bound = f">= {_format(self.at_least, self.digits)}"
        if self.at_most is not None:
            bound = f"<= {_format(self.at_most, self.digits)}"
        verdict = {True: "met", False: "**missed**", None: ""}[self.is_met]
        spread = f"{_format(min(self.values), self.digits)} - {_format(max(self.values), self.digits)}"
        cells = (self.name, _format(self.median, self.digits), spread, self.unit, bound, verdict, self.note)
        return "| " + " | ".join(cells) + " |"


def _format(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def build_table(figures: Sequence[Figure]) -> str:
    """All figures as one Markdown table: median and spread (least - most) over the rounds."""
    head = "| What | Median | Spread | Unit | Bound | Verdict | Note |\n|---|--:|--:|---|--:|---|---|"
    return "\n".join([head, *(figure.row() for figure in figures)])


def describe_machine() -> str:
    """One line about where the figures come from."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    day = datetime.now(UTC).date().isoformat()
    return (
        f"{day}, {os.cpu_count()} cores ({cpu}), {memory_gib:.0f} GiB, Python {platform.python_version()}; "
        f"load average before the run {load}. Servers, load generator and workers share these cores."
    )


def write_page(section: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between the marks of a section of a page; docs/benchmarks.md unless another is named."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    head, rest = page.read_text().split(begin, 1)
    page.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")
    say(f"{section}: written to {page.name}")


def say(text: str) -> None:
    """Tell what is being measured; the table itself goes to standard output."""
    print(f"  {text}", flush=True)
