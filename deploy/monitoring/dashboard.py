"""The Grafana dashboard (schema version 41: Grafana 12 and later; older ones read it too)."""

from typing import Any

from deploy.monitoring.panels import ROWS, STACK_LABEL, Panel, Row

__all__ = ["dashboard"]

Json = dict[str, Any]

_HEIGHT = 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> Json:
    """As Grafana imports it: the data source is asked for."""
    return {
        "uid": "agentic-serving",
        "title": "Agentic serving: programs",
        "description": "What the programs of a stack reach, what the program scheduler decides, and why.",
        "tags": ["agentic-serving"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all panels
        "refresh": "30s",
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": _panels(),
    }


def _variables() -> list[Json]:
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
    }
    return [
        source,
        _variable("namespace", "Namespace", "label_values(agentic_serving_active, namespace)"),
        _variable(
            "stack",
            "Stack",
            f'label_values(agentic_serving_active{{namespace="$namespace"}}, {STACK_LABEL})',
        ),
        _variable(
            "program",
            "Program",
            f'label_values(agentic_serving_turns_total{{namespace="$namespace", {STACK_LABEL}="$stack"}}, program)',
            every=True,
        ),
    ]


def _variable(name: str, label: str, query: str, *, every: bool = False) -> Json:
    found: Json = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # when the time range changes
        "sort": 1,
    }
    if every:
        everything = {"selected": True, "text": ["All"], "value": ["$__all"]}
        found |= {"multi": True, "includeAll": True, "allValue": ".*", "current": everything}
    return found


def _panels() -> list[Json]:
    found: list[Json] = []
    y = 0
    for row in ROWS:
        found.append(_row(row, y, len(found) + 1))
        y += 1
        x = 0
        for panel in row.panels:
            if x + panel.width > 24:
                x, y = 0, y + _HEIGHT
            found.append(_panel(panel, x, y, len(found) + 1))
            x += panel.width
        y += _HEIGHT
    return found


def _row(row: Row, y: int, number: int) -> Json:
    place = {"x": 0, "y": y, "w": 24, "h": 1}
    return {
        "id": number,
        "type": "row",
        "title": row.title,
        "gridPos": place,
        "collapsed": False,
        "panels": [],
    }


def _panel(panel: Panel, x: int, y: int, number: int) -> Json:
    limits = {"min": panel.least, "max": panel.most}
    custom: Json = {"fillOpacity": 25 if panel.stacked else 0, "lineWidth": 1, "showPoints": "never"}
    custom["stacking"] = {"mode": "normal" if panel.stacked else "none", "group": "A"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHT},
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": _SOURCE,
                "expr": query.filled(),
                "legendFormat": query.legend,
                "range": True,
            }
            for n, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "custom": custom,
                **{name: limit for name, limit in limits.items() if limit is not None},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }
