"""Values and their schema are a contract: every value is described, has a default, and is taken; others are refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from tests.support.chart import (
    ALL_OPTIONS,
    CHART,
    KUBE_VERSION,
    ChartError,
    load_all_options,
    load_values,
    render_chart,
    run_helm,
)

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
# The defaults of settings are those of the processes; the others are maps of any names.
WITHOUT_DEFAULTS = ("global", "api.settings", "operator.settings", "dashboards.labels", "database.parameters")


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema by its path, those of items and of further properties too."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}" if path else name)
    if isinstance(schema.get("items"), dict):
        yield from walk(schema["items"], f"{path}[]")


def find_leaves(values: Any, path: str = "") -> set[str]:
    """The paths of all values that are not maps."""
    if isinstance(values, dict) and values:
        return set().union(*(find_leaves(child, f"{path}.{name}" if path else name) for name, child in values.items()))
    return {path}


def find_schema_leaves() -> set[str]:
    """The paths of all values that the schema knows."""
    return {path for path, schema in walk(SCHEMA) if path and "[]" not in path and not schema.get("properties")}


def test_defaults_and_schema_name_the_same_values() -> None:
    skipped = (*WITHOUT_DEFAULTS, "resources", "affinity")

    def keep(paths: set[str]) -> set[str]:
        return {path for path in paths if not any(f".{name}" in f".{path}" for name in skipped)}

    assert keep(find_leaves(load_values())) == keep(find_schema_leaves())


def test_every_object_says_what_else_it_takes() -> None:
    """Only what is passed to Kubernetes as it is takes anything."""
    source = yaml.safe_load((CHART / "values.schema.yaml").read_text(encoding="utf-8"))
    is_open = {path for path, schema in walk(source) if schema.get("x-open")}
    for path, schema in walk(SCHEMA):
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if "object" in kinds:
            further = schema["additionalProperties"]
            assert further is not True or path in is_open, path
            assert not (schema.get("properties") and further is not False), path


def test_every_value_is_described() -> None:
    missing = [path for path, schema in walk(SCHEMA) if path and "[]" not in path and not schema.get("description")]
    assert not missing


def test_the_lint_values_set_every_option() -> None:
    options = load_all_options()
    jsonschema_rs.validate(SCHEMA, options)
    paths = find_leaves(options)
    unset = {
        path
        for path in find_schema_leaves() - paths
        if not any(other.startswith(f"{path}.") for other in paths)
        # Each setting is one line of the same loop.
        and ".settings." not in path
    }
    assert unset == set()


def test_the_lint_values_differ_from_the_defaults() -> None:
    defaults, options = load_values(), load_all_options()

    def get(values: Any, path: str) -> Any:
        for name in path.split("."):
            values = values.get(name) if isinstance(values, dict) else None
        return values

    # What must be on for the rest to render.
    same = {path for path in find_leaves(options) if get(defaults, path) == get(options, path)}
    assert {path for path in same if not path.endswith((".enabled", ".create", ".mode"))} <= {"global"}


@pytest.mark.parametrize("values", [CHART / "values.yaml", ALL_OPTIONS], ids=lambda path: path.stem)
def test_helm_lint_finds_nothing(values: Path) -> None:
    report = run_helm("lint", str(CHART), "--strict", "--kube-version", KUBE_VERSION, "--values", str(values))
    assert "0 chart(s) failed" in report
    assert "[WARNING]" not in report


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"api": {"replica": 2}}, "replica", id="misspelled"),
        pytest.param({"redis": {}}, "redis", id="unknown part"),
        pytest.param({"api": {"settings": {"retention": 3}}}, "retention", id="unknown setting"),
        pytest.param({"api": {"settings": {"databaseUrl": "x"}}}, "databaseUrl", id="setting of the chart's own"),
        pytest.param({"rabbitmq": {"replicas": 2}}, "replicas", id="two nodes"),
        pytest.param({"api": {"auth": {"mode": "basic"}}}, "mode", id="unknown mode"),
        pytest.param(
            {"rabbitmq": {"enabled": False}}, "rabbitmq.existingSecret", id="broker elsewhere, not said where"
        ),
        pytest.param({"valkey": {"enabled": False}}, "valkey.existingSecret", id="store elsewhere, not said where"),
        pytest.param(
            {"database": {"enabled": False}}, "database.existingSecret", id="records elsewhere, not said where"
        ),
        pytest.param({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs", id="route without gateway"),
        pytest.param({"operator": {"namespace": "a"}}, "operator.scope=namespace", id="namespace without scope"),
        pytest.param({"api": {"autoscaling": {"minReplicas": 9}}}, "maxReplicas", id="minimum above maximum"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ChartError) as refusal:
        render_chart(values)
    assert message in str(refusal.value)
    assert "Error:" in str(refusal.value)


def test_settings_become_variables_that_the_api_reads() -> None:
    settings = {"maxBacklog": 2_000_000, "references": ["000", "001"], "retentionDays": 0.5, "logLevel": "debug"}
    deployment = render_chart({"api": {"settings": settings}}).get("Deployment", "taskfleet-api")
    env = {item["name"]: item.get("value") for item in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["TASKFLEET_API_MAX_BACKLOG"] == "2000000"
    assert env["TASKFLEET_API_REFERENCES"] == "000,001"
    assert env["TASKFLEET_API_RETENTION_DAYS"] == "0.5"
    assert env["TASKFLEET_API_LOG_LEVEL"] == "debug"
