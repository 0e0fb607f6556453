"""What `docs/scaling-operations.md` tells HPA and KEDA to ask has an answer while a queue is scaled from outside."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.controlplane.samples import build_task_queue, create
from tests.dashboards.conftest import Monitored
from tests.dashboards.expressions import open_prometheus, query
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually_sync

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("dashboards")]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling-operations.md"
NAME = "outer"


def read_blocks() -> list[dict[str, Any]]:
    """The YAML of the chapter: the adapter's configuration, the HPA, the ScaledObject."""
    text = PAGE.read_text().partition("## Scaled by something else")[2]
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S)]


def expand(rule: dict[str, Any], namespace: str, matchers: dict[str, str]) -> str:
    """The query that the adapter makes of a rule for one external metric of one namespace."""
    (label,) = rule["resources"]["overrides"]
    wanted = ",".join(f'{name}="{value}"' for name, value in {label: namespace, **matchers}.items())
    series = rule["seriesQuery"].partition("{")[0]
    text = rule["metricsQuery"].replace("<<.Series>>", series).replace("<<.LabelMatchers>>", wanted)
    return str(text.replace("<<.GroupBy>>", label))


def test_the_documented_queries_answer(monitored: Monitored, control_plane: ControlPlane) -> None:
    create(control_plane, build_task_queue(monitored.namespace, NAME, scaling={"mode": "External", "minReplicas": 2}))
    adapter, autoscaler, scaled = read_blocks()
    metric = autoscaler["spec"]["metrics"][0]["external"]["metric"]
    rules = {rule["name"]["as"]: rule for rule in adapter["externalRules"]}
    assert metric["name"] in rules
    (label,) = metric["selector"]["matchLabels"]
    queries = {name: expand(rule, monitored.namespace, {label: NAME}) for name, rule in rules.items()}
    keda = scaled["spec"]["triggers"][0]["metadata"]["query"]
    queries["keda"] = keda.replace('"default"', f'"{monitored.namespace}"').replace('"thumbnails"', f'"{NAME}"')
    assert queries["keda"] != keda
    with open_prometheus(monitored.prometheus.url) as prometheus:
        found: dict[str, list[float]] = {}

        def ask() -> bool:
            for name, text in queries.items():
                found[name] = [float(item["value"][1]) for item in query(prometheus, text)]
            return all(found.values())

        eventually_sync(ask, 60, 1)
    expected = {"taskfleet_workers_desired": [2.0], "taskfleet_queue_tasks": [0.0], "keda": [2.0]}
    assert found == expected
