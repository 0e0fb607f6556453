"""The shipped dashboards and rules: well formed, up to date, importable anywhere, and only about metrics that exist."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.dashboards.expressions import (
    DASHBOARDS,
    RULES,
    Expression,
    find_selectors,
    list_alerts,
    list_metric_names,
    list_panels,
    list_variables,
)

from taskfleet_core.scaling import Cause

ROOT = Path(__file__).resolve().parents[3]
RULE_TESTS = ROOT / "tests" / "dashboards" / "rules_test.yaml"
DOCUMENTS = {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def test_dashboards_are_what_their_source_says() -> None:
    done = run([sys.executable, str(ROOT / "hack" / "generate_dashboards.py"), "--check"], ROOT)
    assert done.returncode == 0, done.stderr
    assert set(DOCUMENTS) == {"overview.json", "queue.json", "health.json"}


@pytest.mark.parametrize("expression", [*list_panels(), *list_alerts(), *list_variables()], ids=lambda e: e.place)
def test_every_metric_that_is_asked_for_exists(expression: Expression) -> None:
    names = {selector.partition("{")[0] for selector in find_selectors(expression.text)}
    assert names
    assert names <= list_metric_names()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_dashboard_can_be_imported_into_any_grafana(name: str) -> None:
    """Data sources by variable, no ids of an installation, a current schema, panels that do not overlap."""
    document = DOCUMENTS[name]
    assert {"id", "uid"}.isdisjoint(document)
    assert document["schemaVersion"] >= 39
    variables = {variable["name"]: variable for variable in document["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert set(re.findall(r'"uid": "([^"]*)"', json.dumps(document))) == {"${datasource}"}
    used = set(re.findall(r"\$(\w+)", " ".join(t["expr"] for t in list_targets(document))))
    assert {word for word in used if not word.startswith("__")} <= set(variables)
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    assert_apart(document["panels"])


def list_targets(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [target for panel in document["panels"] for target in panel.get("targets", ())]


def assert_apart(panels: list[dict[str, Any]]) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & mine, panel["title"]
        cells |= mine


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_panel_says_what_it_shows(name: str) -> None:
    for panel in DOCUMENTS[name]["panels"]:
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert panel["targets"], panel["title"]


def test_every_cause_of_a_decision_is_explained() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    assert [cause for cause in Cause if f"`{cause}`" not in page] == []


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    cases = [case for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    firing = {case["alertname"] for case in cases if case["exp_alerts"]}
    quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert firing == quiet == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_tells_what_to_do(rule: dict[str, Any]) -> None:
    """Its runbook names a section that is there."""
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    named = re.search(r"docs/runbooks\.md#([a-z]+)", annotations["runbook"])
    assert named is not None
    assert named[1] == rule["alert"].lower()
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert rule["alert"] in headings
