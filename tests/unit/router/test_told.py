"""The real desk tells metrics, report and history: what they show agrees with what it did, and nothing is left of calls that ended."""

from typing import Any

import pytest

from agentic_serving.router.history import History
from agentic_serving.router.metrics import Metrics
from agentic_serving.router.report import Report
from agentic_serving.router.telling import holds_told, run_told, sessions_told
from agentic_serving.router.words import Note
from tests.unit.router.desking import Driver, chat, full, text_of, turn
from tests.unit.router.test_metrics import value


class Told:
    """A driver's desk, with listeners that have heard everything from its beginning."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.metrics, self.report, self.history = (
            Metrics(driver.config),
            Report(driver.config),
            History(),
        )
        before, hear = list(driver.ear.notes), driver.ear.hear

        def heard(note: Note, now_s: float) -> None:
            hear(note, now_s)
            for listener in (self.metrics, self.report, self.history):
                listener.hear(note, now_s)

        driver.ear.hear = heard  # type: ignore[method-assign]
        for note in before:
            for listener in (self.metrics, self.report, self.history):
                listener.hear(note, driver.now_s)
        self.metrics.view(driver.desk, clock=lambda: driver.now_s)

    def run(self, name: str) -> dict[str, Any]:
        found = self.history.run(name)
        assert found is not None
        return run_told(found, self.driver.now_s)

    def state(self, session: str) -> str:
        told = sessions_told(self.history, self.driver.now_s)
        return str(next(one["state"] for one in told if one["id"] == session))


@pytest.fixture
def told() -> Told:
    """Two replicas that are full."""
    return Told(full())


def test_a_held_call_is_seen_everywhere_and_then_nowhere(told: Told) -> None:
    driver = told.driver
    driver.arrive(turn("c", "waits", 60_000))
    assert driver.held("c")
    (hold,) = holds_told(driver.desk.held(driver.now_s, 10), told.history, driver.now_s)
    assert (hold["session"], hold["reason"]) == ("default/waits", "WaitsForRoom")
    assert hold["because"]
    assert value(told.metrics, "held_turns") == 1
    assert value(told.metrics, "held_bytes") > 60_000
    assert told.state("default/waits") == "Held"
    driver.now_s += 7
    driver.end("b0", 80_000)
    driver.end("b1", 80_000)
    driver.run_until(driver.now_s + 400)
    assert driver.went("c")
    driver.end("c", 60_000)
    driver.run_until(driver.now_s + 5)
    assert value(told.metrics, "held_turns") == value(told.metrics, "in_flight_turns") == 0
    assert value(told.metrics, "hold_seconds_count", program="default", reason="WaitsForRoom") == 1
    turn_told = told.run("default/waits")["sessions"][0]["turns"][0]
    assert [step["verdict"] for step in turn_told["decisions"]] == ["Hold", "Admit"]
    assert turn_told["decisions"][1]["held_s"] >= 7
    assert turn_told["outcome"] == "Answered"
    assert turn_told["replica"] in ("r0", "r1")


def test_a_client_that_leaves_and_one_that_tries_again(told: Told) -> None:
    driver = told.driver
    driver.arrive(turn("left", "leaves", 60_000))
    driver.closed("left")
    assert told.state("default/leaves") == "Away"
    driver.arrive(turn("first", "again", 60_000))
    driver.arrive(turn("second", "again", 60_000, headers={"x-stainless-retry-count": "1"}))
    driver.closed("first")
    outcomes = {
        t["call_id"]: t["outcome"]
        for run in ("default/leaves", "default/again")
        for s in told.run(run)["sessions"]
        for t in s["turns"]
    }
    assert outcomes["left"] == "ClientLeft"
    assert outcomes["first"] in ("Refused", "ClientLeft")
    assert outcomes.get("second") is None


def test_a_tree_of_agents_is_told_as_one_run_with_its_task(told: Told) -> None:
    driver = Driver()
    told = Told(driver)
    driver.arrive(turn("r", "root", 1_000))
    driver.now_s += 2
    driver.end("r", 1_000)
    for name in ("a", "b"):
        driver.arrive(turn(name, name, 500, headers={"x-parent-session-id": "root"}))
        driver.end(name, 500)
    driver.now_s += 3
    again = [("user", text_of(1_000, "root")), ("assistant", "ok"), ("tool", "done")]
    driver.arrive(chat("r2", again, session="root"))
    driver.end("r2", 1_020, cached=990)
    driver.run_until(driver.now_s + 120)
    run = told.run("default/root")
    assert [(s["id"], s["depth"], len(s["turns"])) for s in run["sessions"]] == [
        ("default/root", 0, 2),
        ("default/a", 1, 1),
        ("default/b", 1, 1),
    ]
    assert run["sessions"][0]["turns"][1]["kind"] == "tool"
    assert run["sessions"][0]["turns"][0]["gap"]["kind"] == "tool"
    assert len(run["tasks"]) == 1
    assert value(told.metrics, "task_completion_seconds_count", program="default") == 1
    assert value(told.metrics, "cached_tokens_total", program="default") == 990
    default = next(p for p in told.report.programs(driver.now_s) if p["name"] == "default")
    assert (default["turns"], default["completed"]) == (4, 1)


def test_nothing_is_left_of_calls_that_ended(told: Told) -> None:
    """Each listener keeps a call until its last note: the desk must send one, whatever becomes of the call."""
    driver = told.driver
    driver.arrive(turn("goes", "goes", 100))
    driver.end("goes", 100)
    driver.arrive(turn("left", "leaves", 60_000))
    driver.closed("left")
    driver.arrive(turn("first", "again", 60_000))
    driver.arrive(turn("second", "again", 60_000, headers={"x-stainless-retry-count": "1"}))
    driver.closed("first")
    driver.end("b0", 80_000)
    driver.end("b1", 80_000)
    driver.run_until(driver.now_s + 400)
    driver.end("second", 60_000)
    driver.run_until(driver.now_s + 4_000)
    assert len(told.metrics._calls) == 0
    assert len(told.report._calls) == 0
    assert len(told.history._calls) == 0
