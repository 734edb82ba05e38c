"""router.state.journal: what is to be written after what the desk told."""

from typing import Any

import pytest

from agentic_serving.router.state import journal as journals
from agentic_serving.router.state.journal import Journal
from agentic_serving.router.words import Came, Done, Note, Over


def _came(call: str, session: str, **fields: Any) -> Came:
    return Came(
        call_id=call,
        program="p",
        run=fields.pop("run", session),
        session=session,
        parent=fields.pop("parent", None),
        client="generic",
        api="chat",
        model="m",
        kind=fields.pop("kind", "tool"),
        side="",
        turn=fields.pop("turn", 3),
        confidence=1.0,
        prompt_tokens=10,
        new_tokens=1,
        reused_tokens=9,
    )


def _done(call: str) -> Done:
    return Done(
        call_id=call,
        outcome="Answered",
        replica="",
        prompt_tokens=1,
        cached_tokens=0,
        output_tokens=1,
        estimated=False,
        expected_cached_tokens=0,
    )


def _over(session: str, run: str, why: str) -> Over:
    return Over(session=session, run=run, program="p", why=why, took_s=1.0)


@pytest.mark.parametrize(
    ("notes", "names"),
    [
        ([_came("1", "a", turn=0)], ["a"]),
        ([_came("1", "a.b", run="a", parent="a", turn=0)], ["a.b", "a"]),
        ([_came("1", "a")], []),  # what a turn changes is known when it has ended
        ([_came("1", "a"), _done("1")], ["a"]),
        ([_came("1", "a.b", run="a"), _done("1")], ["a.b", "a"]),
        ([_came("1", "a.b.c", run="a", parent="a.b"), _done("1")], ["a.b.c", "a", "a.b"]),
        ([_came("1", "a", kind="human")], ["a"]),
        ([_came("1", "a", kind="side", turn=0), _done("1")], []),
        ([_done("1")], []),
        ([_over("a", "a", "idle")], ["a"]),
        ([_came("1", "a"), _done("1"), _came("2", "a"), _done("2")], ["a"]),  # once, however often
    ],
)
def test_names_that_changed(notes: list[Note], names: list[str]) -> None:
    journal = Journal()
    for note in notes:
        journal.hear(note, 0.0)
    assert journal.take(10) == names
    assert journal.take(10) == []


@pytest.mark.parametrize(
    ("session", "why", "told"),
    [("a", "ended", ["a"]), ("a", "idle", []), ("a", "evicted", []), ("a.b", "ended", [])],
)
def test_other_stacks_hear_of_runs_that_said_that_they_are_over(
    session: str, why: str, told: list[str]
) -> None:
    journal = Journal()
    journal.hear(_over(session, "a", why), 0.0)
    assert journal.take_ends(10) == told


def test_an_end_from_elsewhere_is_not_told_again() -> None:
    journal = Journal()
    journal.quietly(quiet=True)
    journal.hear(_over("a", "a", "ended"), 0.0)
    assert (journal.take_ends(10), journal.take(10)) == ([], ["a"])


def test_what_could_not_be_written_is_written_later() -> None:
    journal = Journal()
    journal.mark(["a", "b", "c"])
    taken = journal.take(2)
    journal.give_back(taken, ["a"])
    assert sorted(journal.take(10)) == ["a", "b", "c"]
    assert journal.take_ends(10) == ["a"]


def test_it_is_bounded_and_says_when_names_were_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("_MOST_NAMES", "_MOST_CALLS", "_MOST_ENDS"):
        monkeypatch.setattr(journals, bound, 100)
    journal = Journal()
    for i in range(1000):
        journal.hear(_came(str(i), f"s{i}", turn=0), 0.0)
        journal.hear(_over(f"s{i}", f"s{i}", "ended"), 0.0)
    assert len(journal) == 100
    assert len(journal.take_ends(1000)) == 100
    assert journal.overflowed
    assert journal.dropped > 0
