"""Draws docs/images/demo.svg from docs/images/demo.txt, which `make demo` printed on a real cluster: tasks and pods.

python hack/demo/plot.py            after: make demo > docs/images/demo.txt
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
LINE = re.compile(r"^ *([\d.]+) +(\d+) +(\d+) +(\d+) +\S* *(\d+) ready, (\d+) wanted$", re.MULTILINE)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 300, 60, 60, 46, 40
TASKS, PODS, WANTED = "#3f82c9", "#129a50", "#7f8c9a"
STYLE = (
    "text{font:13px sans-serif;fill:#333}.grid{stroke:#e3e6ea}.axis{font-size:12px}.page{fill:#fff}"
    "@media(prefers-color-scheme:dark){.page{fill:#161b22}text{fill:#d6dde4}.grid{stroke:#333c47}}"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the demonstration."""

    seconds: float
    open_tasks: int
    ready: int
    wanted: int


def read_moments(text: str) -> list[Moment]:
    """The lines with figures."""
    return [
        Moment(float(at), int(waiting) + int(running), int(ready), int(wanted))
        for at, waiting, running, _, ready, wanted in LINE.findall(text)
    ]


def draw(moments: Sequence[Moment]) -> str:
    """Waiting and running tasks as an area (left axis), ready and wanted pods as steps (right axis)."""
    end = moments[-1].seconds * 1.03
    most_tasks = max(moment.open_tasks for moment in moments)
    most_pods = max(max(moment.ready, moment.wanted) for moment in moments)

    def x(seconds: float) -> float:
        return LEFT + seconds / end * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def steps(levels: Sequence[int]) -> str:
        points, level = [f"{x(0):.1f},{y(0):.1f}"], 0
        for moment, following in zip(moments, levels, strict=True):
            points += [f"{x(moment.seconds):.1f},{y(at / most_pods):.1f}" for at in (level, following)]
            level = following
        return " ".join([*points, f"{x(end):.1f},{y(level / most_pods):.1f}"])

    area = " ".join(f"{x(moment.seconds):.1f},{y(moment.open_tasks / most_tasks):.1f}" for moment in moments)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f"<title>0 to {most_pods} to 0 pods for {most_tasks} tasks</title><style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" class="page"/>',
    ]
    for number in range(most_pods + 1):
        at = y(number / most_pods)
        tasks = round(most_tasks * number / most_pods)
        parts += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>',
            f'<text class="axis" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tasks}</text>',
            f'<text class="axis" x="{WIDTH - RIGHT + 8}" y="{at + 4:.1f}">{number}</text>',
        ]
    for second in range(0, int(end) + 1, 5):
        parts.append(f'<text class="axis" x="{x(second):.1f}" y="{HEIGHT - 18}" text-anchor="middle">{second} s</text>')
    parts += [
        f'<polygon points="{x(0):.1f},{y(0):.1f} {area} {x(end):.1f},{y(0):.1f}" fill="{TASKS}" opacity="0.22"/>',
        f'<polyline points="{area}" fill="none" stroke="{TASKS}" stroke-width="2"/>',
        line(steps([moment.wanted for moment in moments]), WANTED, 'stroke-dasharray="5 4"'),
        line(steps([moment.ready for moment in moments]), PODS, ""),
        *legend([("tasks that wait or run (left)", TASKS), ("pods ready (right)", PODS), ("pods wanted", WANTED)]),
    ]
    return "\n".join([*parts, "</svg>", ""])


def line(points: str, color: str, more: str) -> str:
    """A line without a fill."""
    return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2.5" {more}/>'


def legend(entries: Sequence[tuple[str, str]]) -> list[str]:
    """Names beside one another, on top."""
    parts = []
    for number, (name, color) in enumerate(entries):
        left = LEFT + number * 260
        parts.append(f'<rect x="{left}" y="16" width="16" height="5" fill="{color}"/>')
        parts.append(f'<text x="{left + 24}" y="23">{name}</text>')
    return parts


if __name__ == "__main__":
    (IMAGES / "demo.svg").write_text(draw(read_moments((IMAGES / "demo.txt").read_text())))
