#!/usr/bin/env python3
"""Writes the generated pages of docs/reference/ (settings, TaskQueue, HTTP API, command line, metrics, alerts, panels).

`--check` writes nothing and exits 1 when a page is not what the code says.
"""

import dataclasses
import json
import re
import socket
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from generated import keep_files
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from reference_commands import build_command_line
from reference_http import build_http_api
from reference_tables import table

from taskfleet_api.settings import ENVIRONMENT_PREFIX, Settings
from taskfleet_api.telemetry import METRICS
from taskfleet_core.policy import TaskQueuePolicySpec
from taskfleet_core.reference_settings import ReferenceSettings
from taskfleet_core.taskqueue import TaskQueueSpec
from taskfleet_core.wire import ENV_GRACE_SECONDS
from taskfleet_operator.metrics import METRICS as OPERATOR_METRICS
from taskfleet_operator.settings import OperatorSettings
from taskfleet_worker.settings import VARIABLES, WorkerSettings

OPERATOR_PREFIX = str(OperatorSettings.model_config["env_prefix"])
WORKER_INTRODUCTION = """Of `celery worker` with Taskfleet's loader: operator and local mode set them.
Who starts a worker without either, as `compose.yaml` does, sets them, `CELERY_BROKER_URL` (also as
`CELERY_BROKER_READ_URL` and `CELERY_BROKER_WRITE_URL`), `CELERY_LOADER=taskfleet_worker.loader:Loader` and
`CELERY_RESULT_BACKEND=taskfleet_worker.backend.Backend+redis://...`.
`TASKFLEET_REDIS_CA_FILE` names the authorities (PEM) that sign the store's certificate.
"""
FOLDER = Path(__file__).parents[1] / "docs" / "reference"
CHART = Path(__file__).parents[1] / "charts" / "taskfleet"
NOTE = "<!-- Generated from the code by `make generate`; do not edit. -->\n"


def build_configuration() -> str:
    """The settings of API, operator and workers, and those of reference 001."""
    head = ("Variable", "Kind", "Default", "Meaning")
    return "\n".join(
        [
            "# Settings\n",
            NOTE,
            "The API reads its settings once, at the start, from the environment.",
            f"A variable that begins with `{ENVIRONMENT_PREFIX}` and is not listed here stops it with a message.",
            "Lists are words separated by commas.\n",
            *table(head, list_settings(Settings, ENVIRONMENT_PREFIX)),
            "\n## Operator\n",
            "Read once, likewise; in the chart `operator.settings`, and what the chart sets itself.\n",
            *table(head, list_settings(OperatorSettings, OPERATOR_PREFIX)),
            "\n## Worker\n",
            WORKER_INTRODUCTION,
            *table(("Variable", "Default", "Meaning"), list_worker_variables()),
            "\n## Reference 001\n",
            "The names of that project, read as they stand when its contract is switched on.\n",
            *table(head, list_settings(ReferenceSettings, "")),
            "",
        ]
    )


def list_settings(model: type[BaseModel], prefix: str) -> list[tuple[str, ...]]:
    """Variable, kind, default and meaning of each setting; names are as they stand where there is no prefix."""
    return [
        (
            prefix + name.upper() if prefix else field.alias or name,
            describe_type(field),
            show_default(field),
            field.description or "",
        )
        for name, field in model.model_fields.items()
    ]


def list_worker_variables() -> Iterator[tuple[str, str, str]]:
    """Variable, default and meaning of what a worker reads."""
    defaults = {field.name: field.default for field in dataclasses.fields(WorkerSettings)}
    for name, variable in VARIABLES.items():
        default = defaults[variable.attribute]
        if default in (None, dataclasses.MISSING) or name == ENV_GRACE_SECONDS:
            yield name, "none", variable.meaning
        else:
            text = ",".join(default) if isinstance(default, tuple) else str(default)
            yield name, f"`{text}`", variable.meaning


def build_task_queue() -> str:
    """Every field of the spec of a TaskQueue and of a TaskQueuePolicy."""
    fields = iterate_fields(TaskQueuePolicySpec, "spec")
    policy = [(f"`{path}`", kind, default, text) for path, kind, default, text in fields]
    rows = [(f"`{path}`", kind, default, text) for path, kind, default, text in iterate_fields(TaskQueueSpec, "spec")]
    return "\n".join(
        [
            "# TaskQueue\n",
            NOTE,
            "`apiVersion: taskfleet.dev/v1alpha1`, `kind: TaskQueue`. Unknown fields are refused.\n",
            *table(("Field", "Kind", "Default", "Meaning"), rows, code_first=False),
            "\n## TaskQueuePolicy\n",
            "`apiVersion: taskfleet.dev/v1alpha1`, `kind: TaskQueuePolicy`: see [limits](../fleet-limits.md).\n",
            *table(("Field", "Kind", "Default", "Meaning"), policy, code_first=False),
            "",
        ]
    )


def build_metrics() -> str:
    """Every metric of the `/metrics` of API and operator."""
    head = ("Metric", "Kind", "Labels", "Meaning")
    api = [(metric.name, metric.kind, show_labels(metric.labels), metric.help) for metric in METRICS.values()]
    operator = [
        (name + ("_total" if kind == "counter" else ""), kind, show_labels(labels), text)
        for name, (kind, labels, text) in OPERATOR_METRICS.items()
    ]
    return "\n".join(
        [
            "# Metrics\n",
            NOTE,
            "A figure that is not known has no sample; it is never a zero.",
            "What has not happened yet is a zero: its first time is an increase.",
            "Both also tell of their process: `process_cpu_seconds_total`, `process_resident_memory_bytes` and so on.",
            "How they are shown and what they alert on: [Monitoring](../monitoring.md).\n",
            "## API\n",
            "`/metrics` on its port, of each replica. Several replicas: add counters up, take the maximum of gauges.\n",
            *table(head, api),
            "\n## Operator\n",
            "`/metrics` on port 8080. Only the leader tells of queues; `namespace` is the TaskQueue's.\n",
            *table(head, operator),
            "",
        ]
    )


def build_monitoring() -> str:
    """The shipped alerts, and what the panels of the shipped dashboards show."""
    rules = yaml.safe_load((CHART / "rules" / "taskfleet.rules.yaml").read_text())
    alerts = [
        (
            f"[{rule['alert']}](../runbooks.md#{rule['alert'].lower()})",
            rule["labels"]["severity"],
            rule.get("for", "at once"),
            # Prometheus fills these in when an alert fires.
            re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"*\1*", rule["annotations"]["summary"]),
        )
        for group in rules["groups"]
        for rule in group["rules"]
    ]
    lines = [
        "# Alerts and dashboards\n",
        NOTE,
        "What to do about an alert is in its runbook; how to install all of it is in [Monitoring](../monitoring.md).\n",
        "## Alerts\n",
        *table(("Alert", "Severity", "After", "Says"), alerts, code_first=False),
    ]
    for path in sorted((CHART / "dashboards").glob("*.json")):
        document = json.loads(path.read_text())
        panels = [(panel["title"], panel["description"]) for panel in document["panels"] if panel["type"] != "row"]
        lines += [
            f"\n## {document['title']}\n",
            f"{document['description']}\n",
            *table(("Panel", "Shows"), panels, code_first=False),
        ]
    return "\n".join([*lines, ""])


def show_labels(labels: tuple[str, ...]) -> str:
    """The names of a metric's labels."""
    return ", ".join(labels) or "none"


PAGES: Mapping[str, Any] = {
    "configuration.md": build_configuration,
    "taskqueue.md": build_task_queue,
    "metrics.md": build_metrics,
    "monitoring.md": build_monitoring,
    "http-api.md": lambda: build_http_api(NOTE),
    "command-line.md": lambda: build_command_line(NOTE),
}


def iterate_fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """(path, kind, default, meaning) of a model's fields, those of nested models behind their own."""
    for name, field in model.model_fields.items():
        path = f"{prefix}.{field.alias or name}"
        yield path, describe_type(field), show_default(field), field.description or ""
        nested = find_model(field.annotation)
        if nested is not None:
            is_list = get_origin(field.annotation) is list
            yield from iterate_fields(nested, path + ("[]" if is_list else ""))


def find_model(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := find_model(part)) is not None), None)


def describe_type(field: FieldInfo) -> str:
    """The kind of value in a word or two."""
    return describe_annotation(field.annotation)


def describe_annotation(annotation: Any) -> str:
    """As `describe_type`, for an annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return describe_annotation(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(describe_annotation(part) for part in arguments if part is not type(None))
    if origin in (list, tuple):
        return "list"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "object"
    names = {int: "integer", float: "number", str: "text", bool: "true or false", SecretStr: "secret", Path: "path"}
    return names.get(annotation, "object")


def show_default(field: FieldInfo) -> str:
    """The default as it would be written."""
    if field.is_required():
        return "required"
    if field.default_factory is socket.gethostname:
        return "the host's name"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is None:
        return "none"
    if isinstance(default, BaseModel):
        return "see below"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list | tuple):
        return f"`{','.join(map(str, default))}`" if default else "empty"
    if isinstance(default, dict):
        return "empty"
    return f"`{default}`" if default != "" else "empty"


def main() -> int:
    """Write the pages, or compare them."""
    return keep_files({FOLDER / name: build() for name, build in PAGES.items()})


if __name__ == "__main__":
    sys.exit(main())
