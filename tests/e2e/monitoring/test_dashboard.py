"""Dashboard and rules on a real Prometheus: every query is answered with data, every rule evaluates, alerts fire when they should.

History comes from a real registry that heard an hour of notes; a second Prometheus scrapes the scheduler's own pages.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from PIL import Image

from agentic_serving.router.history import History
from agentic_serving.router.metrics import Metrics
from agentic_serving.router.report import Report
from agentic_serving.router.web import Site, make_app
from tests.e2e.localcluster.process import wait_until
from tests.e2e.monitoring.board import LABELS, ROOT, Filled, draw, filled, panels, replayed
from tests.e2e.monitoring.prometheus import Prometheus, promtool, running
from tests.e2e.monitoring.scenario import CONFIG, Scenario

QUERIES = [
    pytest.param(query, id=f"{panel['title']}-{n}")
    for panel in panels()
    for n, query in enumerate(filled(panel))
]
RULES: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "monitoring" / "prometheus_rule.yaml").read_text())[
    "spec"
]


@pytest.fixture(scope="module")
def hour() -> Iterator[tuple[Prometheus, float, float]]:
    text, begin_s, end_s = replayed()
    with running(history=text, labels=LABELS) as prometheus:
        yield prometheus, begin_s, end_s


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_answered_with_data(query: Filled, hour: tuple[Prometheus, float, float]) -> None:
    prometheus, begin_s, end_s = hour
    assert "$" not in query.expr
    found = prometheus.series(query.expr, begin_s, end_s, 60)
    values = [value for one in found for _, value in one.points if isfinite(value)]
    assert any(value > 0 for value in values)
    assert len({query.name(one.labels) for one in found}) == len(found), "two series have one name"


def test_the_picture_has_a_line_for_everything(hour: tuple[Prometheus, float, float], tmp_path: Path) -> None:
    """The picture in docs is this one; nobody but a person can tell whether it is a good one."""
    path = tmp_path / "dashboard.png"
    draw(*hour, path)
    with Image.open(path) as picture:
        assert picture.width > 1000
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None
    assert len(colours) > 50


@pytest.fixture
def address() -> Iterator[str]:
    """A scheduler's pages on a real port, with half an hour behind it."""
    metrics = Metrics(CONFIG)
    scenario = Scenario(metrics)
    scenario.until(1800)
    site = Site(
        config=CONFIG,
        metrics=metrics,
        report=Report(CONFIG),
        history=History(),
        view=scenario,
        clock=lambda: scenario.now_s,
        ready=lambda: "",
        active=lambda: True,
    )
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(make_app(site))
    loop.run_until_complete(runner.setup())
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(listening.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    host, port = runner.addresses[0][:2]
    yield f"{host}:{port}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(runner.cleanup())
    loop.close()


def test_prometheus_scrapes_the_pages_and_evaluates_every_rule(address: str) -> None:
    with running(scrape=address, rules=RULES, labels=LABELS) as prometheus:

        def evaluated() -> bool:
            ratio = prometheus.get("/api/v1/query", query="agentic_serving:objective_budget:ratio")
            rules = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
            assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []
            return len(ratio["result"]) == 4 and all(rule["health"] == "ok" for rule in rules)

        wait_until(evaluated, timeout_s=60, what="every rule to be evaluated")
        (up,) = prometheus.get("/api/v1/query", query="up")["result"]
        assert up["value"][1] == "1"
        metadata = prometheus.get("/api/v1/metadata")
    assert metadata["agentic_serving_task_completion_seconds"][0]["type"] == "histogram"


def _series(objective: str, ratio: float, met: float, missed: float) -> list[dict[str, str]]:
    """An objective of which so many are met and missed each minute, for 2 h."""
    labels = f'namespace="team",agentic_serving_dev_stack="chat",program="p",objective="{objective}"'
    return [
        {"series": f"agentic_serving_objective_ratio{{{labels}}}", "values": f"{ratio}x130"},
        {
            "series": f'agentic_serving_objective_results_total{{{labels},result="met"}}',
            "values": f"0+{met}x130",
        },
        {
            "series": f'agentic_serving_objective_results_total{{{labels},result="missed"}}',
            "values": f"0+{missed}x130",
        },
    ]


@pytest.mark.parametrize(
    ("ratio", "met", "missed", "pages"),
    [
        (0.99, 99, 1, False),  # exactly the budget
        (0.99, 80, 20, True),  # 20 times it
        (0.99, 87, 13, False),  # 13 times it: 14.4 pages
        (0.95, 60, 40, False),  # 8 times it: the bound of 14.4 is 52.5 %
        (0.95, 40, 60, True),
        (0.5, 45, 55, False),  # a P50 objective misses half of the time anyway
        (0.5, 10, 90, True),
        (0.99, 0, 0.1, False),  # six tasks in an hour, all missed: nobody is woken
    ],
)
def test_a_fast_burn_pages(ratio: float, met: float, missed: float, pages: bool, tmp_path: Path) -> None:
    """In the one-hour window, by Prometheus' own tester of rules."""
    burning = [
        rule for rule in RULES["groups"][0]["rules"] if "record" in rule or rule["labels"]["window"] == "1h"
    ]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "g", "rules": burning}]}))
    expected = 'count(ALERTS{alertstate="firing"}) or vector(0)'
    case = {
        "rule_files": ["rules.json"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": _series("completion", ratio, met, missed),
                "promql_expr_test": [
                    {
                        "expr": expected,
                        "eval_time": "2h",
                        "exp_samples": [{"labels": "{}", "value": int(pages)}],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.json").write_text(json.dumps(case))
    done = promtool("test", "rules", "test.json", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
