"""What the shipped dashboards and rules ask Prometheus, and whether a Prometheus has an answer to all of it.

`find_unanswered(url)` is for any test that has a Prometheus which scrapes API and operator under load.
"""

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from taskfleet_api.telemetry import METRICS as API_METRICS
from taskfleet_operator.metrics import METRICS as OPERATOR_METRICS

__all__ = [
    "DASHBOARDS",
    "RULES",
    "Expression",
    "find_selectors",
    "find_unanswered",
    "list_alerts",
    "list_metric_names",
    "list_panels",
    "list_variables",
    "open_prometheus",
    "query",
    "substitute",
]

CHART = Path(__file__).resolve().parents[2] / "charts" / "taskfleet"
DASHBOARDS = CHART / "dashboards"
RULES = CHART / "rules" / "taskfleet.rules.yaml"
QUERY_SECONDS = 20.0
PRESENT = 'count by (__name__) ({__name__=~"(taskfleet|process)_.+"})'

# Without the time range, so that a selector alone is an instant vector.
_SELECTOR = re.compile(r"\b((?:taskfleet|process)_[a-z_]+)\b\s*(\{[^}]*\})?")
_SUFFIXES = ("_bucket", "_sum", "_count")
# Of the process collectors that API and operator register.
PROCESS_METRICS = frozenset({"process_cpu_seconds_total", "process_resident_memory_bytes"})


@dataclass(frozen=True)
class Expression:
    """One expression and where it stands."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def list_panels() -> Iterator[Expression]:
    """Every expression of every panel, with the variables in it."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield Expression(f"{path.name} / {panel['title']} / {target['refId']}", target["expr"])


def list_variables() -> Iterator[Expression]:
    """Every query of a dashboard's variables."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                yield Expression(f"{path.name} / ${variable['name']}", variable["query"]["query"])


def list_alerts() -> Iterator[Expression]:
    """Every expression of the rules."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield Expression(f"{group['name']} / {rule.get('alert') or rule['record']}", rule["expr"])


def find_selectors(text: str) -> list[str]:
    """The vector selectors of an expression."""
    return [name + (labels or "") for name, labels in _SELECTOR.findall(text)]


def list_metric_names() -> set[str]:
    """Every series name that API and operator may expose, from their tables."""
    names = set(PROCESS_METRICS)
    for metric in API_METRICS.values():
        names |= {metric.name + suffix for suffix in _SUFFIXES} if metric.kind == "histogram" else {metric.name}
    for name, (kind, _, _) in OPERATOR_METRICS.items():
        names.add(f"{name}_total" if kind == "counter" else name)
    return names


def substitute(text: str, variables: Mapping[str, str] | None = None, *, window: str = "30s") -> str:
    """What Grafana makes of an expression: the variables' values, `.*` for all, and one window for each range."""
    values = {"namespace": ".*", "queue": ".*", **(variables or {})}
    for name in ("__rate_interval", "__range", "__interval"):
        text = text.replace(f"${name}", window)
    for name, value in values.items():
        text = text.replace(f"${name}", value)
    if "$" in text:
        raise ValueError(f"a variable that nothing fills in: {text}")
    return text


def query(prometheus: httpx.Client, text: str) -> list[Any]:
    """The answer of a real Prometheus; raises AssertionError with its message when it refuses the expression."""
    document = prometheus.get("/api/v1/query", params={"query": text}).json()
    assert document["status"] == "success", f"{text}: {document.get('error')}"
    result = document["data"]["result"]
    # A scalar is [time, value].
    return [result] if document["data"]["resultType"] == "scalar" else result


def open_prometheus(url: str) -> httpx.Client:
    """A client for `query`; one for many queries, as making one takes longer than asking."""
    return httpx.Client(base_url=url, timeout=QUERY_SECONDS, trust_env=False)


def _tells_something(result: list[Any]) -> bool:
    """Whether a panel would show anything: NaN, such as a percentile of nothing, is a gap."""
    values = [series["value"][1] if isinstance(series, dict) else series[1] for series in result[:100]]
    return any(value != "NaN" for value in values)


def find_unanswered(
    prometheus_url: str, variables: Mapping[str, str] | None = None, *, window: str = "30s", without: Iterable[str] = ()
) -> list[str]:
    """The panels without an answer, and the selectors of rules and variables that match nothing.

    Of an alert only its selectors can be asked for: it has no answer while all is well. `without` names metrics that
    the setup cannot have (such as a broker's own counters on RabbitMQ 3).
    """
    with open_prometheus(prometheus_url) as prometheus:

        @functools.cache
        def ask(text: str) -> list[Any]:
            return query(prometheus, substitute(text, variables, window=window))

        missing = [str(panel) for panel in list_panels() if not _tells_something(ask(panel.text))]
        for alert in list_alerts():
            ask(alert.text)  # refused expressions raise
        for place in (*list_alerts(), *list_variables()):
            missing += [f"{place.place}: {selector}" for selector in find_selectors(place.text) if not ask(selector)]
        exposed = {series["metric"]["__name__"] for series in ask(PRESENT)}
        missing += [f"metric {name}" for name in sorted(list_metric_names() - exposed)]
    left_out = tuple(without)
    return [text for text in missing if not any(name in text for name in left_out)]
