"""The samples as one SVG: a chart for each kind, a line for each role, a mark for each fault."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from benchmarks.soak.watching import Sample

__all__ = ["write_plot"]

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 220, 70, 30, 60
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b")
Values = Callable[[Sample], dict[str, float]]


def write_plot(path: Path, samples: Sequence[Sample], faults: Sequence[tuple[float, str]]) -> None:
    """Write the plot of a run."""
    charts: list[tuple[str, Values]] = [
        ("Memory, MiB (proportional)", lambda sample: sample.memory_mib),
        ("Open sockets", lambda sample: {name: float(count) for name, count in sample.sockets.items()}),
        ("Records and events", lambda sample: {name: float(count) for name, count in sample.rows.items()}),
    ]
    parts = [
        _chart(title, samples, values, faults, TOP + place * (HEIGHT + GAP))
        for place, (title, values) in enumerate(charts)
    ]
    height = TOP + len(charts) * (HEIGHT + GAP)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 190} {height}" '
    style = 'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    path.write_text(head + style + "".join(parts) + "</svg>\n")


def _chart(title: str, samples: Sequence[Sample], values: Values, faults: Sequence[tuple[float, str]], top: int) -> str:
    end = max(sample.at for sample in samples)
    names = list(dict.fromkeys(name for sample in samples for name in values(sample)))
    most = max((number for sample in samples for number in values(sample).values()), default=1) or 1

    def x(at: float) -> float:
        return LEFT + WIDTH * at / end

    def y(number: float) -> float:
        return top + HEIGHT - HEIGHT * number / most

    lines = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(title)}</text>']
    for share in (0.0, 0.5, 1.0):
        at = y(most * share)
        lines.append(f'<path d="M{LEFT} {at:.1f}H{LEFT + WIDTH}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{most * share:,.0f}</text>')
        lines.append(f'<text x="{x(end * share):.1f}" y="{top + HEIGHT + 16}">{end * share / 60:.1f} min</text>')
    for at, what in faults:
        mark = f"M{x(at):.1f} {top}V{top + HEIGHT}"
        lines.append(f'<path d="{mark}" stroke="#999" stroke-dasharray="3 3"><title>{escape(what)}</title></path>')
    for place, name in enumerate(names):
        colour = COLOURS[place % len(COLOURS)]
        points = " ".join(f"{x(s.at):.1f},{y(values(s)[name]):.1f}" for s in samples if name in values(s))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        lines.append(f'<text x="{LEFT + WIDTH + 12}" y="{top + 14 + 16 * place}" fill="{colour}">{escape(name)}</text>')
    return "".join(lines)
