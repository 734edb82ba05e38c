"""Held turns: their order, their deadlines, and that both survive any additions and removals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.events import Turn
from agentic_serving.program.waiting import Held, Waiting


def add(waiting: Waiting, name: str, arrived_s: float = 0.0, **fields: float) -> Held:
    """`priority`, `weight` and `hold_s` of one turn."""
    turn = Turn(
        id=name, program="p", run="r", session=name, prompt_tokens=1, max_hold_s=fields.get("hold_s", 100.0)
    )
    held = Held(turn, arrived_s, waiting.rank(int(fields.get("priority", 0)), fields.get("weight", 0.0)))
    waiting.add(held)
    waiting.check()
    return held


def names(waiting: Waiting, n: int = 100) -> list[str]:
    return [held.turn.id for held in waiting.first(n)]


def test_priority_then_weight_then_arrival() -> None:
    waiting = Waiting()
    add(waiting, "late", weight=5.0)
    add(waiting, "later", weight=5.0)
    add(waiting, "light", weight=1.0)
    add(waiting, "urgent", weight=9.0, priority=2)
    add(waiting, "background", weight=0.0, priority=-1)
    assert names(waiting) == ["urgent", "light", "late", "later", "background"]
    assert names(waiting, 2) == ["urgent", "light"]


def test_the_earliest_deadline_is_known_when_others_are_gone() -> None:
    waiting = Waiting()
    add(waiting, "a", 0.0, hold_s=10.0)
    add(waiting, "b", 2.0, hold_s=5.0)
    add(waiting, "c", 3.0, hold_s=50.0)
    assert waiting.deadline_s == 7.0
    assert waiting.overdue(6.9) is None
    first = waiting.overdue(7.0)
    assert first is not None
    assert first.turn.id == "b"
    waiting.pop("b")
    assert waiting.deadline_s == 10.0
    waiting.pop("a")
    waiting.pop("c")
    assert (waiting.deadline_s, waiting.overdue(1e9), len(waiting)) == (None, None, 0)


@pytest.mark.parametrize("name", ["never", "gone"])
def test_what_is_not_here_is_not_taken(name: str) -> None:
    waiting = Waiting()
    add(waiting, "gone")
    waiting.pop("gone")
    assert waiting.pop(name) is None
    assert name not in waiting


@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.integers(-2, 2), st.integers(0, 5), st.integers(0, 50)), max_size=60
    )
)
def test_order_and_deadlines_whatever_comes_and_goes(
    steps: list[tuple[int, int, int, int]],
) -> None:
    """A name that is here goes, one that is not comes."""
    waiting, here, count = Waiting(), dict[str, Held](), 0
    for number, priority, weight, hold_s in steps:
        known = next((name for name in here if name.startswith(f"{number}.")), None)
        if known is not None:
            assert waiting.pop(known) is here.pop(known)
            waiting.check()
        else:
            count += 1
            name = f"{number}.{count}"
            here[name] = add(waiting, name, 0.0, priority=priority, weight=weight, hold_s=float(hold_s))
        assert names(waiting) == sorted(here, key=lambda name: here[name].rank)
        assert waiting.deadline_s == min((one.deadline_s for one in here.values()), default=None)
