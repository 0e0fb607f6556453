"""Parts of a Grafana dashboard. Pure: functions from words to the JSON model of Grafana 11 (schema 39)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Row", "Target", "bars", "build_dashboard", "lines", "stat", "states", "table", "variable"]

SCHEMA_VERSION = 39
WIDTH = 24
# By name of a variable: dashboards are imported into any Grafana.
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, AMBER, RED = "green", "orange", "red"
Json = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """One expression and the legend of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it, which flow from left to right."""

    title: str
    panels: Sequence[Json] = field(default_factory=list)


def stat(title: str, expr: str, description: str, *, unit: str = "short", bad_above: float | None = None) -> Json:
    """One number now, coloured when it is above a bound."""
    steps: list[Json] = [{"color": GREEN, "value": None}]
    if bad_above is not None:
        steps.append({"color": RED, "value": bad_above})
    return {
        **_panel("stat", title, description, [Target(expr)], (4, 4)),
        "fieldConfig": _fields(unit, steps),
        "options": {
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
        },
    }


def lines(
    title: str,
    targets: Sequence[Target],
    description: str,
    *,
    unit: str = "short",
    stack: bool = False,
    width: int = 12,
) -> Json:
    """Lines over time."""
    custom = {"drawStyle": "line", "fillOpacity": 30 if stack else 5, "lineWidth": 1, "showPoints": "never"}
    return _time_series(title, targets, description, unit, stack, width, custom)


def bars(title: str, targets: Sequence[Target], description: str, *, unit: str = "short", width: int = 12) -> Json:
    """Stacked bars over time, for things that happen."""
    custom = {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "showPoints": "never"}
    return _time_series(title, targets, description, unit, True, width, custom)


def states(title: str, target: Target, description: str, *, width: int = 12) -> Json:
    """Bands that are green while a value is 1 and red while it is 0."""
    texts = {"0": {"color": RED, "index": 1, "text": "no"}, "1": {"color": GREEN, "index": 0, "text": "yes"}}
    fields = _fields("short", [{"color": RED, "value": None}, {"color": GREEN, "value": 1}])
    fields["defaults"] |= {"mappings": [{"type": "value", "options": texts}], "color": {"mode": "thresholds"}}
    fields["defaults"]["custom"] = {"fillOpacity": 70, "lineWidth": 0}
    return {
        **_panel("state-timeline", title, description, [target], (width, 8)),
        "fieldConfig": fields,
        "options": {"mergeValues": True, "rowHeight": 0.9, "showValue": "never", "legend": {"showLegend": False}},
    }


def table(title: str, columns: Sequence[tuple[str, str, str]], description: str, *, height: int = 10) -> Json:
    """A row for each queue; columns are (heading, unit, expression by namespace and queue)."""
    targets = [Target(expr) for _, _, expr in columns]
    made = _panel("table", title, description, targets, (WIDTH, height))
    for target in made["targets"]:
        target |= {"format": "table", "instant": True, "range": False}
    names = {f"Value #{_reference(number)}": heading for number, (heading, _, _) in enumerate(columns)}
    overrides = [
        {
            "matcher": {"id": "byName", "options": heading},
            "properties": [{"id": "unit", "value": unit}, {"id": "decimals", "value": 1 if unit != "short" else 0}],
        }
        for heading, unit, _ in columns
    ]
    fields = _fields("short", [{"color": GREEN, "value": None}])
    return {
        **made,
        "fieldConfig": {**fields, "overrides": overrides},
        "options": {"cellHeight": "sm", "showHeader": True, "sortBy": [{"desc": True, "displayName": columns[0][0]}]},
        "transformations": [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "renameByName": {"namespace": "Namespace", "queue": "Queue", **names},
                },
            },
        ],
    }


def variable(name: str, label: str, query: str, *, many: bool = True) -> Json:
    """A choice of label values; with `many` also all of them."""
    made: Json = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "multi": many,
        "includeAll": many,
        "hide": 0,
        "options": [],
    }
    if many:
        made |= {"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}
    return made


def build_dashboard(
    title: str, description: str, variables: Sequence[Json], rows: Iterable[Row], *, refresh: str = "10s"
) -> Json:
    """The whole document. Without `id` and `uid`: Grafana gives them where it is imported."""
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "options": [],
    }
    link = {"title": "Taskfleet", "type": "dashboards", "tags": ["taskfleet"], "asDropdown": True, "icon": "dashboard"}
    return {
        "title": title,
        "description": description,
        "tags": ["taskfleet"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": refresh,
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "weekStart": "",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "annotations": {"list": []},
        "links": [{**link, "includeVars": True, "keepTime": True, "targetBlank": False}],
        "templating": {"list": [source, *variables]},
        "panels": _lay_out(rows),
    }


def _lay_out(rows: Iterable[Row]) -> list[Json]:
    """Number the panels and place them: from left to right, as high as the highest of the line."""
    placed: list[Json] = []
    top = 0
    for row in rows:
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        placed.append({**heading, "id": len(placed) + 1, "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top}})
        top, left, height = top + 1, 0, 0
        for panel in row.panels:
            size = panel["gridPos"]
            if left + size["w"] > WIDTH:
                top, left, height = top + height, 0, 0
            placed.append({**panel, "id": len(placed) + 1, "gridPos": {**size, "x": left, "y": top}})
            left, height = left + size["w"], max(height, size["h"])
        top += height
    return placed


def _panel(kind: str, title: str, description: str, targets: Sequence[Target], size: tuple[int, int]) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        "targets": [
            {
                "refId": _reference(number),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": target.expr,
                "legendFormat": target.legend or "__auto",
                "range": True,
            }
            for number, target in enumerate(targets)
        ],
    }


def _time_series(
    title: str, targets: Sequence[Target], description: str, unit: str, stack: bool, width: int, custom: Json
) -> Json:
    fields = _fields(unit, [{"color": GREEN, "value": None}])
    fields["defaults"]["min"] = 0
    fields["defaults"]["custom"] = {**custom, "stacking": {"group": "A", "mode": "normal" if stack else "none"}}
    return {
        **_panel("timeseries", title, description, targets, (width, 8)),
        "fieldConfig": fields,
        "options": {
            "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _fields(unit: str, steps: list[Json]) -> Json:
    return {
        "defaults": {
            "unit": unit,
            "color": {"mode": "palette-classic" if len(steps) == 1 else "thresholds"},
            "mappings": [],
            "thresholds": {"mode": "absolute", "steps": steps},
        },
        "overrides": [],
    }


def _reference(number: int) -> str:
    return chr(ord("A") + number)
