"""router.history and router.telling: the tree and each decision of a run, live state, bounds."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.router.history import History
from agentic_serving.router.telling import holds_told, run_told, runs_told, sessions_told
from agentic_serving.router.views import HeldCall
from agentic_serving.router.words import Began, Closed
from tests.unit.router.story import Story, Turn

ROOT = "review/r1"


def story_of(history: History) -> Story:
    return Story([history])


def told(history: History, now_s: float, run: str = ROOT) -> dict[str, Any]:
    found = history.run(run)
    assert found is not None
    return run_told(found, now_s)


def test_a_run_tells_its_tree_its_turns_and_each_decision() -> None:
    history = History()
    story = story_of(history)
    story.turn(Turn(hold_s=3, because="chat-0 is full until c1 rests", recomputed={"Evicted": 7}))
    story.gap(ROOT, 5.0)
    story.turn(Turn(session="review/r1/a", parent=ROOT))
    story.turn(Turn(session="review/r1/a/b", parent="review/r1/a"))
    story.turn(Turn(n=2, kind="tool"))
    story.task(20.0, alone_s=10.0)
    run = told(history, story.now_s)
    assert [(s["id"], s["depth"], len(s["turns"])) for s in run["sessions"]] == [
        (ROOT, 0, 2),
        ("review/r1/a", 1, 1),
        ("review/r1/a/b", 2, 1),
    ]
    first = run["sessions"][0]["turns"][0]
    assert [(d["verdict"], d["at_s"], d["because"]) for d in first["decisions"]] == [
        ("Hold", 0.0, "chat-0 is full until c1 rests"),
        ("Admit", 3.0, None),
    ]
    assert (first["first_token_s"], first["ended_s"], first["outcome"]) == (4.0, 6.0, "Answered")
    assert first["recomputed"] == {"Evicted": 7}
    assert first["gap"] == {"kind": "tool", "took_s": 5.0}
    assert run["tasks"][0]["took_s"] == 20.0


def test_the_gap_is_of_the_answered_turn_when_it_is_told_behind_the_next() -> None:
    history = History()
    story = story_of(history)
    story.turn()
    story.come(Turn(n=2, kind="tool"))
    story.tell(Closed(session=ROOT, program="review", kind="tool", gap_s=2.0))
    turns = told(history, story.now_s)["sessions"][0]["turns"]
    assert [t["gap"] for t in turns] == [{"kind": "tool", "took_s": 2.0}, None]


@pytest.mark.parametrize(
    ("until", "state", "since_s"),
    [("come", "Held", 10.0), ("go", "Prefill", 7.0), ("began", "Decode", 5.0), ("end", "Away", 4.0)],
)
def test_the_state_of_a_session_now(until: str, state: str, since_s: float) -> None:
    history = History()
    story = story_of(history)
    turn = Turn(hold_s=3, because="no room")
    call = story.come(turn)
    told_at = story.now_s + 10
    order = ["come", "go", "began", "end"]
    for name, takes_s, happens in (
        ("go", 3.0, lambda: story.go(call, turn)),
        ("began", 2.0, lambda: story.tell(Began(call_id=call, status=200, replica="chat-1"))),
        ("end", 1.0, lambda: story.end(call, turn)),
    ):
        if order.index(name) <= order.index(until):
            story.now_s += takes_s
            happens()
    (session,) = sessions_told(history, told_at)
    assert (session["state"], session["since_s"]) == (state, since_s)


def test_those_who_wait_come_first_and_those_who_are_over_do_not_come() -> None:
    history = History()
    story = story_of(history)
    story.turn(Turn(session="a", run="a"))
    story.turn(Turn(session="gone", run="gone"))
    story.over("gone", 1.0)
    served = Turn(session="c", run="c")
    story.go(story.come(served), served)
    story.come(Turn(session="b", run="b", hold_s=1))
    assert [s["id"] for s in sessions_told(history, story.now_s)] == ["b", "c", "a"]


def test_a_hold_has_the_sentence_of_its_decision() -> None:
    history = History()
    story = story_of(history)
    call = story.come(Turn(hold_s=1, because="chat-0 is full"))
    waits = HeldCall(
        call_id=call,
        program="review",
        run=ROOT,
        session=ROOT,
        reason="WaitsForRoom",
        since_s=1000,
        until_s=1300,
    )
    (hold,) = holds_told([waits], history, story.now_s + 5)
    assert (hold["because"], hold["held_s"], hold["leaves_in_s"]) == ("chat-0 is full", 5.0, 295.0)


def test_a_run_ends_with_all_its_sessions_and_comes_back_with_a_turn() -> None:
    history = History()
    story = story_of(history)
    story.turn()
    story.turn(Turn(session="review/r1/a", parent=ROOT))
    story.over(ROOT, 9.0)
    assert [s["over"] for s in told(history, story.now_s)["sessions"]] == ["ended", "ended"]
    story.turn(Turn(n=2))
    again = told(history, story.now_s)
    assert again["over"] is None
    assert [s["over"] for s in again["sessions"]] == [None, "ended"]


def test_a_session_that_turns_out_to_be_of_another_run_takes_its_turns_along() -> None:
    history = History()
    story = story_of(history)
    story.turn(Turn(session="child", run="child"))
    story.turn(Turn())
    story.turn(Turn(session="child", run=ROOT, parent=ROOT, n=2))
    run = told(history, story.now_s)
    assert [(s["id"], len(s["turns"])) for s in run["sessions"]] == [(ROOT, 1), ("child", 2)]
    assert [r["id"] for r in runs_told(history, story.now_s)] == [ROOT]
    assert told(history, story.now_s, "child")["id"] == ROOT  # found by any of its sessions


def test_the_run_that_was_quiet_longest_leaves_first_and_whole() -> None:
    history = History(max_turns=4)
    story = story_of(history)
    for run in ("a", "b", "a", "b", "c"):
        story.turn(Turn(session=run, run=run))
    assert [r.id for r in history.runs()] == ["c", "b"]
    assert history.run("a") is None
    assert history.forgotten == 1


def test_a_long_run_keeps_its_newest_turns_and_says_so() -> None:
    history = History(max_run_turns=3)
    story = story_of(history)
    story.turn(Turn(session="review/r1/a", parent=ROOT))
    for n in range(1, 5):
        story.turn(Turn(n=n))
    run = told(history, story.now_s)
    assert run["earlier_turns"] == 2
    assert [t["turn"] for s in run["sessions"] for t in s["turns"]] == [2, 3, 4]


def test_parents_in_a_circle_are_shown_once() -> None:
    history = History()
    story = story_of(history)
    story.turn(Turn(session="a", parent="b"))
    story.turn(Turn(session="b", parent="a"))
    assert sorted(s["id"] for s in told(history, story.now_s)["sessions"]) == ["a", "b"]


def test_a_sentence_and_the_decisions_of_a_turn_are_bounded() -> None:
    history = History()
    story = story_of(history)
    turn = Turn(hold_s=1, because="x" * 10_000)
    call = story.come(turn)
    for _ in range(100):
        story.go(call, turn)
    decisions = told(history, story.now_s)["sessions"][0]["turns"][0]["decisions"]
    assert len(decisions) == 8
    assert len(decisions[0]["because"]) == 300


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=60))
def test_it_never_keeps_more_than_its_bound(turns: list[tuple[int, int]]) -> None:
    """Sessions wander between runs as they please."""
    history = History(max_turns=10, max_run_turns=6)
    story = story_of(history)
    for run, session in turns:
        story.turn(Turn(session=f"s{session}", run=f"r{run}"))
        kept = [len(r.turns) for r in history.runs()]
        assert sum(kept) <= 10
        assert max(kept) <= 6
        assert sum(kept) == history._n_turns
        for known in history.runs():
            assert {t.came.session for t in known.turns} <= set(known.sessions)
            run_told(known, story.now_s)
