"""Prometheus' own tool takes the rules and all expressions, and alerts fire when they should: it runs their tests."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.dashboards.expressions import RULES, list_panels, substitute

RULE_TESTS = Path(__file__).parent / "rules_test.yaml"


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool (Debian package prometheus)")
    return found


def run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def test_rules_are_sound_for_prometheus(promtool: str) -> None:
    done = run([promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES)], RULES.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_expression_is_valid_promql(promtool: str, tmp_path: Path) -> None:
    """As a recording rule each, for which promtool parses it; two rules must not be the same."""
    rules = [
        {"record": "x", "expr": substitute(panel.text), "labels": {"place": panel.place}} for panel in list_panels()
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = run([promtool, "check", "rules", str(file)], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_and_do_not_fire_as_they_should(promtool: str) -> None:
    done = run([promtool, "test", "rules", RULE_TESTS.name], RULE_TESTS.parent)
    assert done.returncode == 0, done.stdout + done.stderr
