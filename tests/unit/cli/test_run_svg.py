"""cli.run_timeline and cli.run_svg: idle stretches fold, time never runs back, and any name gives a well-formed picture."""

from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.cli.run_svg import drawn
from agentic_serving.cli.run_timeline import scale_of, ticks
from agentic_serving.router.history import History
from agentic_serving.router.telling import run_told
from tests.unit.router.story import Story, Turn

SVG = "{http://www.w3.org/2000/svg}"
SPANS = st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e4)), max_size=20)


def run_of(*spans: tuple[float, float]) -> dict[str, Any]:
    """A run of which only times are known: (came, ended)."""
    turns = [{"came_s": begin, "ended_s": end} for begin, end in spans]
    return {"now_s": 0.0, "sessions": [{"turns": turns}]}


def story_of(*turns: Turn) -> dict[str, Any]:
    history = History()
    story = Story([history])
    for turn in turns:
        story.turn(turn)
    run = history.run("review/r1")
    assert run is not None
    return {"namespace": "team", "stack": "chat", "mode": "Enforce", **run_told(run, story.now_s)}


def titles(picture: str) -> list[str]:
    root = ET.fromstring(picture)  # noqa: S314 (we wrote it)
    return [e.text or "" for e in root.iter(f"{SVG}title")]


def test_a_long_idle_stretch_is_folded_and_a_short_one_is_not() -> None:
    scale = scale_of(run_of((0, 10), (12, 20), (1000, 1010)), 290.0)
    assert [(fold.begin_s, fold.end_s) for fold in scale.folds] == [(20, 1000)]
    assert scale.x(1010) == pytest.approx(290.0)
    assert scale.x(20) - scale.x(10) > scale.x(1000) - scale.x(20)


def test_ticks_are_round_and_not_within_a_fold() -> None:
    scale = scale_of(run_of((0, 10), (1003, 1013)), 500.0)
    found = ticks(scale)
    assert all(at % 5 == 0 or at % 2 == 0 for at in found)
    assert not [at for at in found if 10 <= at < 1003]
    assert 3 <= len(found) <= 12


@settings(deadline=None)
@given(SPANS, st.lists(st.floats(-10, 2e5), min_size=2, max_size=10))
def test_time_never_runs_back_and_stays_on_the_paper(
    spans: list[tuple[float, float]], times: list[float]
) -> None:
    scale = scale_of(run_of(*((begin, begin + length) for begin, length in spans)), 900.0)
    drawn_at = [scale.x(at) for at in sorted(times)]
    assert all(a <= b + 1e-6 for a, b in pairwise(drawn_at))
    assert all(-1e-6 <= x <= 900 + 1e-6 for x in drawn_at)
    assert len(ticks(scale)) <= 40


def test_pointing_at_a_bar_says_why() -> None:
    picture = drawn(story_of(Turn(hold_s=3, because="chat-0 is full", recomputed={"Evicted": 70})))
    (bar,) = (title for title in titles(picture) if title.startswith("turn 1"))
    assert "WaitsForRoom: chat-0 is full" in bar
    assert "computed again: 70 Evicted" in bar
    assert "held: WaitsForRoom" in picture


def test_a_fork_is_a_line_from_the_parents_row() -> None:
    root = ET.fromstring(drawn(story_of(Turn(), Turn(session="c", parent="review/r1"))))  # noqa: S314 (we wrote it)
    upright = [
        e for e in root.iter(f"{SVG}line") if e.get("x1") == e.get("x2") and e.get("stroke") == "#6e7781"
    ]
    assert len(upright) == 1


@settings(deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_any_name_gives_a_well_formed_picture(name: str) -> None:
    picture = drawn(
        story_of(Turn(), Turn(session=name, parent="review/r1", hold_s=1, hold=name, because=name))
    )
    titles(picture)


def test_sessions_past_the_bound_are_counted() -> None:
    turns = [Turn(session=f"s{n}", n=1) for n in range(250)]
    assert "50 more sessions are not drawn" in drawn(story_of(*turns))
