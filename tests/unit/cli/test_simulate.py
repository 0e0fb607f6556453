"""`taskfleet simulate`: reading traces, the table, JSON and the plot."""

import json
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from taskfleet.errors import InvalidInputError
from taskfleet.exit_codes import ExitCode
from taskfleet.main import execute
from taskfleet.simulating.comparing import compare
from taskfleet.simulating.reading import read_trace
from taskfleet_core.taskqueue import load_task_queues

ROOT = Path(__file__).parents[3]
QUEUE = """\
apiVersion: taskfleet.dev/v1alpha1
kind: TaskQueue
metadata: {name: thumbnails}
spec:
  worker: {app: "thumbs.celery:app", concurrency: 2}
  scaling: {maxReplicas: 30}
"""


@pytest.fixture
def queue_file(tmp_path: Path) -> Path:
    """A TaskQueue."""
    path = tmp_path / "queue.yaml"
    path.write_text(QUEUE)
    return path


@pytest.fixture
def trace_file(tmp_path: Path) -> Path:
    """Ten minutes: one task a second of about a second, ten times as many for one minute."""
    chance = random.Random(1)
    at, lines = 0.0, ["timestamp,seconds"]
    while at < 600:
        at += chance.expovariate(10.0 if 240 < at < 300 else 1.0)
        lines.append(f"{at:.3f},{chance.uniform(0.5, 1.5):.2f}")
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(lines))
    return path


def write(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_table_compares_with_keda_and_a_fixed_pool(
    queue_file: Path, trace_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["simulate", str(trace_file), "-f", str(queue_file), "--fixed", "7"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "RULE", "P50", "P95", "P99", "LATE", "POD-SECONDS", "PEAK", "STARTED", "KILLED", "UNFINISHED",
    ]  # fmt: skip
    assert [line.split("  ")[0] for line in lines[1:]] == ["taskfleet", "keda, defaults", "keda, tuned", "fixed, 7"]


def test_json_has_every_figure(queue_file: Path, trace_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["simulate", str(trace_file), "-f", str(queue_file), "-o", "json"]) == ExitCode.OK
    ours, documented, tuned, fixed = json.loads(capsys.readouterr().out)
    assert ours["late_share"] < 0.05
    assert ours["late_share"] < documented["late_share"]
    assert ours["pod_seconds"] < tuned["pod_seconds"] < fixed["pod_seconds"]
    assert fixed["late_share"] <= 0.01  # the smallest that keeps 99 %
    assert all(row["unfinished_tasks"] == 0 for row in (ours, documented, tuned, fixed))


def test_plot_is_an_svg_with_a_line_per_rule_and_panel(queue_file: Path, trace_file: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    assert execute(["simulate", str(trace_file), "-f", str(queue_file), "--plot", str(plot)]) == ExitCode.OK
    root = ElementTree.parse(plot).getroot()
    lines = [element for element in root.iter() if element.tag.endswith("polyline")]
    assert len(lines) == 8
    places = [tuple(map(float, pair.split(","))) for line in lines for pair in line.attrib["points"].split()]
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)
    words = " ".join(element.text or "" for element in root.iter())
    assert "taskfleet: " in words
    assert "target 5 s" in words


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("", "holds no task", id="empty"),
        pytest.param("timestamp\n", "holds no task", id="header only"),
        pytest.param("1,2,3\n", ":1: 3 columns: write timestamp[,run seconds]", id="columns"),
        pytest.param("1,1\nsoon,1\n", ":2: 'soon' is no time: write seconds or ISO 8601", id="time"),
        pytest.param("inf,1\n", ":1: 'inf' is no time", id="infinite"),
        pytest.param("1,1\n\n2,-3\n", ":3: '-3' is no run time: write seconds", id="negative"),
        pytest.param("1,fast\n", ":1: 'fast' is no run time", id="words"),
        pytest.param("1\n2\n", "--run-seconds", id="no run time"),
        pytest.param("{", "is no JSON", id="broken JSON"),
        pytest.param('{"data": {"resultType": "vector"}}', "query_range", id="no range"),
        pytest.param('{"data": {"resultType": "matrix", "result": []}}', "holds no sample", id="no series"),
        pytest.param('{"data": {"resultType": "matrix", "result": [{}]}}', "[time, value] pairs", id="no values"),
    ],
)
def test_bad_trace_is_told_with_its_line_and_the_fix(
    text: str, told: str, tmp_path: Path, queue_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, text)
    assert execute(["simulate", str(path), "-f", str(queue_file)]) == ExitCode.USAGE
    message = capsys.readouterr().err
    assert told in message
    assert str(path) in message


def test_missing_file_is_told(tmp_path: Path, queue_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["simulate", str(tmp_path / "none.csv"), "-f", str(queue_file)]) == ExitCode.USAGE
    assert "none.csv" in capsys.readouterr().err


def test_times_may_be_iso_and_unordered(tmp_path: Path) -> None:
    path = write(tmp_path, "# ours\n2026-01-31T12:00:05Z,2\n2026-01-31T13:00:01+01:00, 1\n")
    recorded = read_trace(path, None)
    assert (recorded.trace.arrivals, recorded.trace.run_seconds) == ([0.0, 4.0], [1.0, 2.0])
    assert recorded.begin is not None
    assert recorded.begin.isoformat() == "2026-01-31T12:00:01+00:00"


def test_prometheus_range_is_drawn_at_its_rate(tmp_path: Path) -> None:
    values: list[Any] = [[1_769_860_800 + 15 * step, "2" if step < 40 else "0"] for step in range(81)]
    series = {"metric": {}, "values": values}
    document = {"status": "success", "data": {"resultType": "matrix", "result": [series, series]}}
    trace = read_trace(write(tmp_path, json.dumps(document)), 0.5).trace
    assert len(trace.arrivals) == pytest.approx(2 * 2 * 600, rel=0.1)
    assert max(trace.arrivals) <= 600
    assert set(trace.run_seconds) == {0.5}


def test_one_of_several_queues_must_be_chosen(
    tmp_path: Path, trace_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, QUEUE + "---\n" + QUEUE.replace("thumbnails", "mails"), "queues.yaml")
    arguments = ["simulate", str(trace_file), "-f", str(file)]
    assert execute(arguments) == ExitCode.USAGE
    assert "choose one with --queue: thumbnails, mails" in capsys.readouterr().err
    assert execute([*arguments, "--queue", "nobody"]) == ExitCode.USAGE
    assert execute([*arguments, "--queue", "mails", "--fixed", "3"]) == ExitCode.OK


def test_schedules_hold_where_the_trace_has_times(tmp_path: Path) -> None:
    schedules = "[{cron: '0 0 * * *', minReplicas: 0}, {cron: '10 12 * * *', minReplicas: 6}]"
    text = QUEUE.replace("maxReplicas: 30}", f"maxReplicas: 30, schedules: {schedules}}}")
    file = write(tmp_path, text, "queue.yaml")
    lines = [f"2026-01-31T12:{minute:02d}:30Z,1" for minute in range(20)]
    recorded = read_trace(write(tmp_path, "\n".join(lines)), None)
    (queue,) = load_task_queues(file)
    ours = compare(recorded, queue, startup_seconds=4.0, fixed=3)[0]
    reached = next(at for at, replicas in ours.run.timeline if replicas == 6)
    assert 570 <= reached <= 572  # 12:10:00 is 9.5 min after the first task


def test_nothing_can_be_read_from_bytes(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="cannot be read as text"):
        read_trace(path, None)


def test_the_picture_of_the_scaling_guide_is_what_its_commands_draw(tmp_path: Path) -> None:
    """The arrivals are those of the loop there."""
    guide = (ROOT / "docs/scaling.md").read_text()
    assert "for wave in 0 240 480; do seq $wave 0.125 $((wave + 120)); done | sed 's/$/,1.5/'" in guide
    queue, trace, plot = tmp_path / "queue.yaml", tmp_path / "arrivals.csv", tmp_path / "waits.svg"
    queue.write_text(guide.partition("<<'YAML'\n")[2].partition("YAML\n")[0])
    trace.write_text("".join(f"{wave + tick * 0.125:.3f},1.5\n" for wave in (0, 240, 480) for tick in range(961)))
    assert execute(["simulate", str(trace), "-f", str(queue), "--plot", str(plot)]) == ExitCode.OK
    picture = ROOT / "docs/images/scaling.svg"
    assert plot.read_text() == picture.read_text(), f"the rule has changed: run the commands again, into {picture}"
