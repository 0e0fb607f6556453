"""Waits and replicas over time as an SVG, without a library."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from taskfleet.simulating.comparing import OURS, Outcome
from taskfleet_core.simulation import Run, Trace

__all__ = ["build_plot"]

WIDTH, LEFT, RIGHT = 960, 70, 20
PANEL_HEIGHT, GAP, TOP = 240, 60, 80
BUCKETS = 240
LEAST_WAIT = 0.1  # seconds: the lower end of the logarithmic axis
COLORS = {OURS: "#129a50", "keda, defaults": "#c0392b", "keda, tuned": "#e08e0b"}
OTHER_COLOR = "#7f8c9a"
STYLE = (
    "text{font:12px sans-serif;fill:#333}.title{font-weight:bold}.grid{stroke:#ddd}"
    ".target{stroke:#888;stroke-dasharray:5 4}.line{fill:none;stroke-width:1.6;stroke-linejoin:round}.page{fill:#fff}"
    "@media(prefers-color-scheme:dark){.page{fill:#161b22}text{fill:#d6dde4}.grid{stroke:#333c47}}"
)

Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values to pixels; the ticks carry their words."""

    low: float
    high: float
    first: float  # pixel of `low`
    last: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """The pixel of a value, kept inside."""
        low, high, value = self.low, self.high, max(self.low, min(self.high, value))
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low)
        return self.first + share * (self.last - self.first)


def build_plot(trace: Trace, outcomes: Sequence[Outcome], target_wait_seconds: float) -> str:
    """The longest wait of each stretch of time above, the replicas asked for below."""
    end = max(1.0, *(outcome.run.end for outcome in outcomes))
    time = _Axis(0.0, end, LEFT, WIDTH - RIGHT)
    longest = max((wait for outcome in outcomes for wait in outcome.run.waits), default=1.0)
    most_wait = 10 ** math.ceil(math.log10(max(longest, 2 * target_wait_seconds, 1.0)))
    most_replicas = max(1, *(_count_most(outcome) for outcome in outcomes))
    waits = _Axis(LEAST_WAIT, most_wait, TOP + PANEL_HEIGHT, TOP, logarithmic=True)
    bottom = TOP + 2 * PANEL_HEIGHT + GAP
    replicas = _Axis(0.0, most_replicas * 1.05, bottom, bottom - PANEL_HEIGHT)
    parts = [
        *_draw_frame(waits, _decades(most_wait), "longest wait, seconds", time),
        *_draw_frame(replicas, _round_steps(most_replicas), "replicas asked for", time),
        *_draw_time(time, bottom),
        _draw_target(waits, time, target_wait_seconds),
    ]
    for outcome in reversed(outcomes):  # ours last, on top
        color = COLORS.get(outcome.rule, OTHER_COLOR)
        parts.append(_draw_line(_collect_waits(trace, outcome.run, end), time, waits, color))
        parts.append(_draw_line(_collect_replicas(outcome, end), time, replicas, color))
    parts += _draw_legend(outcomes)
    height = bottom + 40
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    background = f'<rect width="{WIDTH}" height="{height}" class="page"/>'
    return "\n".join([head, f"<title>{escape(trace.name)}</title><style>{STYLE}</style>{background}", *parts, "</svg>"])


def _count_most(outcome: Outcome) -> int:
    return max((replicas for _, replicas in outcome.run.timeline), default=outcome.run.peak)


def _collect_waits(trace: Trace, run: Run, end: float) -> Points:
    """The longest wait by moment of arrival; stretches without arrivals break nothing, they count as no wait."""
    longest = [0.0] * BUCKETS
    for arrival, wait in zip(trace.arrivals, run.waits, strict=True):
        bucket = min(BUCKETS - 1, int(arrival / end * BUCKETS))
        longest[bucket] = max(longest[bucket], wait)
    return [((number + 0.5) * end / BUCKETS, wait) for number, wait in enumerate(longest)]


def _collect_replicas(outcome: Outcome, end: float) -> Points:
    """Steps."""
    run = outcome.run
    level = run.first_replicas
    points: Points = [(0.0, level)]
    for moment, replicas in run.timeline:
        points += [(moment, level), (moment, replicas)]
        level = replicas
    return [*points, (end, level)]


def _decades(most: float) -> list[float]:
    return [10.0**power for power in range(round(math.log10(LEAST_WAIT)), round(math.log10(most)) + 1)]


def _round_steps(most: float) -> list[float]:
    """About five ticks at round numbers."""
    rough = most / 5
    size = 10 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [number * step for number in range(int(most / step) + 1)]


def _draw_frame(axis: _Axis, ticks: Sequence[float], title: str, time: _Axis) -> list[str]:
    parts = [f'<text class="title" x="{LEFT}" y="{axis.last - 10:.0f}">{title}</text>']
    for tick in ticks:
        y = axis.place(tick)
        parts.append(f'<line class="grid" x1="{time.first}" x2="{time.last}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    return parts


def _draw_time(time: _Axis, bottom: float) -> list[str]:
    unit, name = (3600, "h") if time.high > 3 * 3600 else (60, "min") if time.high > 180 else (1, "s")
    return [
        f'<text x="{time.place(tick * unit):.1f}" y="{bottom + 18:.0f}" text-anchor="middle">{tick:g} {name}</text>'
        for tick in _round_steps(time.high / unit)
    ]


def _draw_target(waits: _Axis, time: _Axis, seconds: float) -> str:
    y = waits.place(seconds)
    line = f'<line class="target" x1="{time.first}" x2="{time.last}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{time.last}" y="{y - 5:.1f}" text-anchor="end">target {seconds:g} s</text>'


def _draw_line(points: Points, time: _Axis, axis: _Axis, color: str) -> str:
    places = " ".join(f"{time.place(x):.1f},{axis.place(y):.1f}" for x, y in points)
    return f'<polyline class="line" stroke="{color}" points="{places}"/>'


def _draw_legend(outcomes: Sequence[Outcome]) -> list[str]:
    parts = []
    for number, outcome in enumerate(outcomes):
        x, y = LEFT + number % 2 * (WIDTH - LEFT) // 2, 14 + number // 2 * 18
        color = COLORS.get(outcome.rule, OTHER_COLOR)
        summary = outcome.summary
        words = f"{outcome.rule}: {100 * summary.late_share:.1f} % late, {summary.pod_seconds:,.0f} pod-s"
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="4" fill="{color}"/>')
        parts.append(f'<text x="{x + 20}" y="{y + 7}">{escape(words)}</text>')
    return parts
