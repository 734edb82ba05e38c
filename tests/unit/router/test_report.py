"""router.report: percentiles by hand, the window, what belongs to the objective's unit, bounds."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.router.report import WINDOW_S, Report, percentiles
from tests.unit.router.story import CONFIG, Story, Turn, program


def one(report: Report, name: str, now_s: float) -> dict[str, Any]:
    return next(p for p in report.programs(now_s) if p["name"] == name)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([7.0], {"p50": 7.0, "p95": 7.0, "p99": 7.0}),
        ([float(n) for n in range(1, 101)], {"p50": 50.0, "p95": 95.0, "p99": 99.0}),
        ([3.0, 1.0, 2.0], {"p50": 2.0, "p95": 3.0, "p99": 3.0}),
    ],
    ids=["none", "one", "hundred", "unsorted"],
)
def test_percentiles_by_nearest_rank(values: list[float], expected: dict[str, float] | None) -> None:
    assert percentiles(values) == expected


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_values_and_in_order(values: list[float]) -> None:
    found = percentiles(values)
    assert found is not None
    assert found["p50"] <= found["p95"] <= found["p99"]
    assert set(found.values()) <= set(values)


def test_tasks_and_tokens_are_told_by_program() -> None:
    report = Report(CONFIG)
    story = Story([report])
    story.turn(Turn(hold_s=4, prompt=1000, recomputed={"Evicted": 150, "Edit": 50}))
    story.turn(Turn(prompt=1000, kind="tool", prefill_s=3))
    for took_s in (10.0, 50.0, 70.0, 80.0):
        story.task(took_s, alone_s=10.0)
    found = one(report, "review", story.now_s)
    assert found["completed"] == 4
    assert found["completion_s"] == {"p50": 50.0, "p95": 80.0, "p99": 80.0}
    assert found["attainment_percent"] == 50.0
    assert found["recompute_percent"] == 10.0
    assert found["slowdown"]["p50"] == 5.0
    assert found["first_token_after_tool_s"]["p50"] == 3.0
    assert found["first_token_attainment_percent"] == 100.0
    assert (found["turns"], found["held"], found["hold_s"]["p50"]) == (2, 1, 4.0)


def test_what_is_older_than_the_window_does_not_count() -> None:
    report = Report(CONFIG)
    story = Story([report])
    story.turn()
    story.task(70.0)
    story.now_s += WINDOW_S + 61
    found = one(report, "review", story.now_s)
    assert (found["completed"], found["turns"], found["completion_s"]) == (0, 0, None)
    assert found["last_turn_s_ago"] > WINDOW_S


def test_a_program_of_whom_nothing_is_known_is_listed_with_nothing() -> None:
    found = one(Report(CONFIG), "triage", 0.0)
    assert found["completion_s"] is None
    assert found["recompute_percent"] is None
    assert found["attainment_percent"] is None


def test_the_unit_says_what_completes() -> None:
    report = Report(replace(CONFIG, programs=(replace(program("review", completion_s=60.0), unit="Run"),)))
    story = Story([report])
    story.task(5.0)
    story.over("review/r1", 90.0)
    found = one(report, "review", story.now_s)
    assert (found["unit"], found["completed"], found["attainment_percent"]) == ("Run", 1, 0.0)


def test_others_come_behind_the_configured_and_are_bounded() -> None:
    report = Report(CONFIG)
    story = Story([report])
    story.turn(Turn(program="default"))
    assert [p["name"] for p in report.programs(story.now_s)] == ["review", "triage", "default"]
    for n in range(200):
        story.turn(Turn(program=f"p{n}"))
    names = [p["name"] for p in report.programs(story.now_s)]
    assert len(names) == 65
    assert "other" in names
