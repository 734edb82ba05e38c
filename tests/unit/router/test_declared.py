"""router.declared: what is said of the future, by whom and when, becomes one thing for the core."""

from typing import Any

import pytest

from agentic_serving.program.events import Declared
from agentic_serving.program.identity import SAID, Hint, Identity
from agentic_serving.router.declared import declared_of, gap_told, merged
from agentic_serving.router.words import Declaration


def identity(*, final: bool = False, **said: float) -> Identity:
    hints = tuple(Hint(name.replace("_", "-"), value, "test", SAID) for name, value in said.items())
    return Identity(program="p", client="generic", api="chat", final=final, hints=hints)


def said(**fields: Any) -> Declaration:
    return Declaration(program="p", session="s", **fields)


@pytest.mark.parametrize(
    ("who", "standing", "declared"),
    [
        (identity(), None, None),
        (identity(), said(fork=3), None),
        (identity(tool_s=5.0), None, Declared(gap_s=5.0)),
        (identity(remaining_s=90.0), None, Declared(remaining_s=90.0, gap_said=False)),
        (identity(final=True), None, Declared(gap_s=None)),
        (identity(final=True, tool_s=5.0), None, Declared(gap_s=None)),
        (identity(), said(remaining_s=60.0), Declared(remaining_s=40.0, gap_said=False)),
        (identity(), said(remaining_s=5.0), Declared(remaining_s=0.0, gap_said=False)),
        (identity(remaining_s=90.0), said(remaining_s=60.0), Declared(remaining_s=90.0, gap_said=False)),
        (identity(), said(tool_s=5.0), None),
        (identity(), said(finished=True), None),
    ],
    ids=[
        "nothing",
        "children say nothing of a gap",
        "a tool",
        "the rest of the task alone does not end the session",
        "the last turn",
        "the last turn, whatever else is said",
        "the rest of the task, less what has passed",
        "a task that took longer than was said",
        "the turn's own word is newer",
        "a gap that is over",
        "a session that was not finished after all",
    ],
)
def test_what_a_turn_declares(who: Identity, standing: Declaration | None, declared: Declared | None) -> None:
    assert declared_of(who, standing, now_s=120.0, said_s=100.0) == declared


@pytest.mark.parametrize(
    ("declaration", "told"),
    [
        (said(fork=3), None),
        (said(remaining_s=3.0), None),
        (said(tool_s=12.5), Declared(gap_s=12.5)),
        (said(finished=True, tool_s=1.0), Declared(gap_s=None)),
        (said(join=True), Declared(gap_s=1.0)),
        (said(join=True, tool_s=30.0), Declared(gap_s=30.0)),
    ],
    ids=str,
)
def test_what_is_said_of_the_present_gap(declaration: Declaration, told: Declared | None) -> None:
    assert gap_told(declaration) == told


def test_declarations_add_up_and_the_newest_word_of_each_counts() -> None:
    found = merged(said(fork=8, remaining_s=60.0, tool_s=9.0), said(tool_s=3.0))
    assert found == said(fork=8, remaining_s=60.0, tool_s=3.0)
    assert merged(found, said(remaining_s=5.0)) == said(fork=8, remaining_s=5.0)
    assert merged(found, said(join=True)) == said(join=True, remaining_s=60.0)
    assert merged(None, found) == found
