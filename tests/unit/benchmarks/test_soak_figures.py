"""The soak's verdict: what grows misses its bound, a restart does not; its plot is an SVG with a line for each role."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks.soak.__main__ import build_flatness
from benchmarks.soak.plotting import write_plot
from benchmarks.soak.watching import Sample


def build_samples(memory: list[float]) -> list[Sample]:
    return [
        Sample(5.0 * place, {"API": mib}, {"API": 12}, {"records": 100}) for place, mib in enumerate(memory, start=1)
    ]


@pytest.mark.parametrize(
    ("memory", "is_flat"),
    [
        pytest.param([100.0] * 40, True, id="flat"),
        pytest.param([60.0] * 8 + [100.0] * 32, True, id="a warm-up"),
        pytest.param([100.0] * 20 + [5.0] + [100.0] * 19, True, id="a restart"),
        pytest.param([100.0 + 3 * step for step in range(40)], False, id="a leak"),
    ],
)
def test_only_growth_after_the_warm_up_misses_its_bound(memory: list[float], is_flat: bool) -> None:
    growth, sockets = build_flatness("API", build_samples(memory))
    assert growth.is_met is is_flat
    assert sockets.is_met


def test_the_plot_has_a_line_for_each_role_and_a_mark_for_each_fault(tmp_path: Path) -> None:
    write_plot(tmp_path / "plot.svg", build_samples([1.0, 2.0, 3.0]), [(7.0, "API <killed>")])
    root = ElementTree.parse(tmp_path / "plot.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}polyline")) == 3
    assert [title.text for title in root.iter(f"{space}title")] == ["API <killed>"] * 3
