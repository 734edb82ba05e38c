"""deploy/monitoring: files are up to date, ask only for metrics that exist, and fit Grafana's grid."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentic_serving.render.monitoring import _TARGET_LABELS
from agentic_serving.router.families import FAMILIES

ROOT = Path(__file__).parents[3]
BOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "agentic-serving.json").read_text())
RULES = (ROOT / "deploy" / "monitoring" / "prometheus_rule.yaml").read_text()
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def test_generated_files_are_up_to_date() -> None:
    paths = os.pathsep.join((str(ROOT / "operator"), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "deploy.monitoring", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", [json.dumps(BOARD), RULES], ids=["dashboard", "rules"])
def test_only_metrics_that_exist_are_asked_for(text: str) -> None:
    exposed = {f.full_name for f in FAMILIES}
    exposed |= {f"{f.full_name}_bucket" for f in FAMILIES if f.type == "histogram"}
    exposed.add("agentic_serving_dev_stack")  # the label
    asked = set(re.findall(r"\bagentic_serving_[a-z_]+", text))
    assert asked - exposed == set()


def test_the_label_of_the_stack_is_the_one_that_the_operator_has_copied_from_pods() -> None:
    copied = {re.sub(r"[^a-zA-Z0-9_]", "_", label) for label in _TARGET_LABELS}
    assert "agentic_serving_dev_stack" in copied


def test_panels_lie_side_by_side_within_the_grid() -> None:
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_is_of_the_chosen_stack(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    for target in panel["targets"]:
        for selector in re.findall(r"{([^{}]*)}", target["expr"]):
            assert 'namespace="$namespace", agentic_serving_dev_stack="$stack"' in selector


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(RULES)["spec"]["groups"] for rule in group["rules"]]
    for rule in rules:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert "$labels.agentic_serving_dev_stack" in rule["annotations"]["summary"]
            assert len(rule["annotations"]["description"]) > 40
