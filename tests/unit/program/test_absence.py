"""Absence: how likely a session is back, by its gaps before and by what its client says, as far as that was true."""

from typing import Any

import pytest

from agentic_serving.program.absence import Absence
from agentic_serving.program.events import Declared, Turn
from agentic_serving.program.policy import Policy

POLICY = Policy(return_within_s=60.0, keep_s=600.0)


def turn(session: str, *, run: str = "run", **fields: Any) -> Turn:
    return Turn(id=session, program="p", run=run, session=session, prompt_tokens=1, **fields)


def declared(gap_s: float | None) -> dict[str, Declared]:
    return {"declared": Declared(gap_s=gap_s)}


def test_short_gaps_before_make_a_return_likely_and_a_long_absence_unlikely() -> None:
    absence, now_s = Absence(POLICY), 0.0
    for _ in range(300):
        absence.away(turn("a"), now_s)
        now_s += 5.0
        absence.back(turn("a"), now_s)
    absence.away(turn("a"), now_s)
    assert absence.weight("a", 0.0) > 0.9
    assert absence.weight("a", 300.0) < absence.weight("a", 0.0)


def test_what_was_away_for_too_long_or_is_here_is_not_waited_for() -> None:
    absence = Absence(POLICY)
    absence.away(turn("a"), 0.0)
    assert absence.weight("a", 599.0) >= 0.0
    assert absence.weight("a", 600.0) == 0.0
    absence.back(turn("a"), 1.0)
    assert (absence.weight("a", 0.0), len(absence)) == (0.0, 0)
    assert absence.weight("nobody", 0.0) == 0.0


@pytest.mark.parametrize(
    ("gap_s", "away_s", "weight"),
    [
        (None, 0.0, 0.0),  # never comes again
        (10.0, 0.0, 1.0),
        (10.0, 29.0, 1.0),
        (10.0, 31.0, 0.0),  # more than three times as long as was said
        (100.0, 0.0, 0.0),  # not within a minute
        (100.0, 50.0, 1.0),
        (0.0, 0.0, 1.0),
        (0.0, 5.0, 0.0),
    ],
)
def test_what_is_declared_counts_if_it_has_always_been_true(
    gap_s: float | None, away_s: float, weight: float
) -> None:
    absence = Absence(POLICY)
    absence._trust["p"] = 1.0
    absence.away(turn("a", **declared(gap_s)), 0.0)
    assert absence.weight("a", away_s) == weight


@pytest.mark.parametrize(
    ("gap_s", "real_s", "grows"),
    [(10.0, 10.0, True), (10.0, 29.0, True), (10.0, 31.0, False), (None, 5.0, False), (0.0, 0.5, True)],
)
def test_trust_follows_how_often_what_was_declared_came_true(
    gap_s: float | None, real_s: float, grows: bool
) -> None:
    absence, now_s = Absence(POLICY), 0.0
    assert absence.trust("p") == 0.5
    for _ in range(100):
        absence.away(turn("a", **declared(gap_s)), now_s)
        now_s += real_s
        absence.back(turn("a"), now_s)
    assert (absence.trust("p") > 0.9) if grows else (absence.trust("p") < 0.1)
    assert absence.trust("other") == 0.5


@pytest.mark.parametrize(("gap_s", "grows"), [(None, True), (10.0, False)])
def test_the_end_of_a_run_judges_what_was_declared_too(gap_s: float | None, grows: bool) -> None:
    absence = Absence(POLICY)
    absence.away(turn("a", **declared(gap_s)), 0.0)
    assert absence.over("run") == ["a"]
    assert (absence.trust("p") > 0.5) is grows


def test_words_that_are_never_true_change_nothing() -> None:
    told, plain = Absence(POLICY), Absence(POLICY)
    told._trust["p"] = 0.0
    for one, fields in ((told, declared(None)), (plain, {})):
        one.away(turn("a", **fields), 0.0)
    assert told.weight("a", 3.0) == plain.weight("a", 3.0)


def test_hints_off_nothing_declared_counts() -> None:
    told, plain = (Absence(Policy(hints=False)), Absence(Policy(hints=False)))
    told._trust["p"] = 1.0
    told.away(turn("a", **declared(None)), 0.0)
    plain.away(turn("a"), 0.0)
    assert told.weight("a", 3.0) == plain.weight("a", 3.0) > 0


def test_a_runs_sessions_end_with_it_and_no_others() -> None:
    absence = Absence(POLICY)
    for session, run in (("a", "one"), ("b", "one"), ("c", "two")):
        absence.away(turn(session, run=run), 0.0)
    assert absence.over("one") == ["a", "b"]
    assert absence.over("one") == []
    assert len(absence) == 1


def test_the_oldest_are_forgotten_where_there_are_too_many() -> None:
    absence = Absence(POLICY, max_sessions=2)
    for i in range(5):
        absence.away(turn(f"s{i}", run=f"run{i}"), float(i))
    assert len(absence) == 2
    assert absence.over("run0") == []
    assert absence.over("run4") == ["s4"]


def test_what_is_said_of_the_task_alone_says_nothing_of_the_gap() -> None:
    absence = Absence(POLICY)
    absence._trust["p"] = 1.0
    absence.away(turn("a", declared=Declared(remaining_s=60.0, gap_said=False)), 0.0)
    absence.away(turn("b"), 0.0)
    assert absence.weight("a", 1.0) == absence.weight("b", 1.0) > 0.0
    absence.back(turn("a"), 5.0)
    assert absence.trust("p") == 1.0


@pytest.mark.parametrize(
    ("said_s", "gap_s", "right_s"),
    [(10.0, 100.0, 110.0), (-20.0, 50.0, 30.0), (-20.0, 5.0, 0.5)],
    ids=["while the tool runs", "while the answer is written", "shorter than the rest of the answer"],
)
def test_a_gap_told_apart_counts_from_when_it_was_told(said_s: float, gap_s: float, right_s: float) -> None:
    absence = Absence(POLICY)
    if said_s < 0:
        absence.told("a", Declared(gap_s=gap_s), 1000.0 + said_s)
    absence.away(turn("a"), 1000.0)
    if said_s >= 0:
        absence.told("a", Declared(gap_s=gap_s), 1000.0 + said_s)
    before = absence.trust("p")
    absence.back(turn("a"), 1000.0 + right_s)
    assert absence.trust("p") > before


def test_a_tool_that_is_told_to_take_long_gives_up_its_place_until_it_is_nearly_done() -> None:
    absence = Absence(POLICY)
    absence._trust["p"] = 1.0
    absence.away(turn("a"), 0.0)
    absence.told("a", Declared(gap_s=300.0), 10.0)
    assert (absence.weight("a", 10.0), absence.weight("a", 260.0)) == (0.0, 1.0)


def test_what_was_said_of_a_gap_that_is_over_is_not_held_against_the_next() -> None:
    absence = Absence(POLICY)
    absence.told("a", Declared(gap_s=None), 0.0)
    absence.back(turn("a"), 1.0)
    absence.away(turn("a"), 2.0)
    absence.away(turn("b"), 2.0)
    assert absence.weight("a", 1.0) == absence.weight("b", 1.0) > 0.0
