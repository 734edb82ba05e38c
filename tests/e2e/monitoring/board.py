"""The dashboard's panels with data: history of the scenario, queries with Grafana's variables filled in, and a picture.

Grafana itself is on no registry that this project may use: the picture is drawn by matplotlib, from the dashboard's own
JSON (places, titles, queries, units) and what a real Prometheus answers to it.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from agentic_serving.router.metrics import Metrics
from tests.e2e.monitoring.prometheus import Prometheus, Series, openmetrics
from tests.e2e.monitoring.scenario import CONFIG, HOUR_S, Scenario

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BOARD", "LABELS", "Filled", "draw", "filled", "panels", "replayed"]

ROOT = Path(__file__).parents[3]
BOARD = ROOT / "deploy" / "grafana" / "agentic-serving.json"
LABELS = {"namespace": "team", "agentic_serving_dev_stack": "chat", "pod": "chat-router-0"}
SCRAPE_S = 15.0
#: As Grafana would fill them in; four scrapes is its own rule for the rate interval.
_VARIABLES = {"$namespace": "team", "$stack": "chat", "$program": ".*", "$__rate_interval": "2m"}
_COLOURS = ("#3b7dd8", "#f2a900", "#2e9e6b", "#b07cc6", "#c62828", "#6e7781", "#17a2b8", "#e07b39")


@dataclass(frozen=True, slots=True)
class Filled:
    """A query as it is asked, and its name for series."""

    expr: str
    legend: str

    def name(self, labels: Mapping[str, str]) -> str:
        return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), self.legend) or "value"


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(BOARD.read_text())["panels"]
    return found


def filled(panel: Mapping[str, Any]) -> Iterator[Filled]:
    for target in panel.get("targets", ()):
        expr = target["expr"]
        for variable, value in _VARIABLES.items():
            expr = expr.replace(variable, value)
        yield Filled(expr, target["legendFormat"])


def replayed() -> tuple[str, float, float]:
    """An hour of scrapes as OpenMetrics text, and when it begins and ends. It ended 10 minutes ago."""
    metrics = Metrics(CONFIG)
    scenario = Scenario(metrics)
    begin_s = time.time() - HOUR_S - 600
    lines: list[str] = []
    at_s = 0.0
    while at_s <= HOUR_S:
        scenario.until(at_s)
        lines += openmetrics(metrics.exposition().decode(), begin_s + at_s, LABELS)
        at_s += SCRAPE_S
    return "\n".join([*lines, "# EOF", ""]), begin_s, begin_s + HOUR_S


def draw(prometheus: Prometheus, begin_s: float, end_s: float, path: Path) -> None:
    """The whole dashboard as a picture."""
    from matplotlib.figure import Figure

    found = panels()
    rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in found)
    figure = Figure(figsize=(20, rows * 0.42), dpi=75, facecolor="white")
    for panel in found:
        place = panel["gridPos"]
        left, width = place["x"] / 24, place["w"] / 24
        bottom, height = 1 - (place["y"] + place["h"]) / rows, place["h"] / rows
        if panel["type"] == "row":
            figure.text(0.012, bottom + 0.2 / rows, panel["title"], fontsize=13, weight="bold")
            continue
        axes = figure.add_axes((left + 0.03, bottom + 1.9 / rows, width - 0.045, height - 3.2 / rows))
        _panel(axes, panel, prometheus, begin_s, end_s)
    figure.savefig(path)
    with Image.open(path) as picture:  # a quarter of the size, and nobody sees it
        picture.convert("RGB").quantize(colors=200).save(path, optimize=True)


def _panel(
    axes: "Axes", panel: Mapping[str, Any], prometheus: Prometheus, begin_s: float, end_s: float
) -> None:
    named = [
        (query.name(one.labels), one)
        for query in filled(panel)
        for one in prometheus.series(query.expr, begin_s, end_s, 30)
    ]
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    axes.set_title(panel["title"], fontsize=10, loc="left", weight="bold")
    axes.set_prop_cycle(color=_COLOURS)
    if stacked and named:
        times, columns = _aligned([one for _, one in named])
        axes.stackplot(
            [(at - begin_s) / 60 for at in times],
            columns,
            labels=[n for n, _ in named],
            colors=_COLOURS,
            alpha=0.75,
        )
    for name, one in [] if stacked else sorted(named, key=lambda pair: pair[0]):
        points = [(at, value) for at, value in one.points if isfinite(value)]
        axes.plot(
            [(at - begin_s) / 60 for at, _ in points], [value for _, value in points], label=name, lw=1.3
        )
    axes.set_xlim(0, (end_s - begin_s) / 60)
    axes.set_ylim(bottom=defaults.get("min"), top=defaults.get("max"))
    axes.yaxis.set_major_formatter(lambda value, _: _with_unit(value, defaults["unit"]))
    axes.tick_params(labelsize=8)
    axes.grid(color="#e6e8eb", lw=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    longest = max((len(name) for name, _ in named), default=0)
    axes.legend(
        fontsize=6.5,
        ncols=2 if longest > 28 else 3 if longest > 18 else 4,
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.1),
        frameon=False,
        handlelength=1,
    )


def _aligned(series: list[Series]) -> tuple[list[float], list[list[float]]]:
    """For stacking: every series at every time, zero where it has no value."""
    times = sorted({at for one in series for at, _ in one.points})
    values = [dict(one.points) for one in series]
    return times, [[v if isfinite(v := at.get(t, 0.0)) else 0.0 for t in times] for at in values]


def _with_unit(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{100 * value:.4g} %"
    if unit == "s":
        return f"{value / 60:.3g} min" if value >= 120 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    return f"{value:.3g}/s" if unit == "ops" else f"{value:.4g}"
