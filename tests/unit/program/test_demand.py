"""Expected demand: the running sum stays what asking every session anew would give."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.demand import WITHIN_S, Demand
from agentic_serving.program.gaps import GapModel

NAMES = st.sampled_from("abcdefgh")
STEPS = st.lists(st.tuples(st.sampled_from(["away", "back"]), NAMES, st.floats(0, 600)), max_size=50)


@given(STEPS)
def test_the_sum_is_that_of_its_parts_whatever_comes_and_goes(steps: list[tuple[str, str, float]]) -> None:
    now_s, demand = 0.0, Demand(GapModel())
    away: dict[str, float] = {}
    for step, session, passed_s in steps:
        now_s += passed_s
        if step == "away":
            demand.away(session, 100, ("p", "human"), now_s)
            away[session] = now_s
        else:
            demand.back(session)
            away.pop(session, None)
        found = demand.tokens(now_s)
        demand.check()
        assert found <= 100 * len(away)
    assert len(demand) == len(away)


def test_a_session_away_for_six_hours_is_given_up() -> None:
    demand = Demand(GapModel())
    demand.away("a", 100, ("p", "human"), 0.0)
    demand.tokens(5 * 3600.0)
    assert len(demand) == 1
    for _ in range(3):
        demand.tokens(9 * 3600.0)
    assert (len(demand), demand.tokens(9 * 3600.0)) == (0, 0.0)


def test_turns_in_quick_succession_leave_nothing_behind() -> None:
    demand = Demand(GapModel())
    for i in range(10_000):
        demand.away("a", 100, ("p", "Bash"), i * 1e-6)
    demand.check()
    assert len(demand._due) < 2000


def test_the_sum_over_many_sessions_is_close_to_asking_all_of_them() -> None:
    gaps, demand, random = GapModel(), Demand(GapModel()), Random(1)
    began_s = {f"s{i}": random.uniform(0, 600) for i in range(400)}
    for session, since_s in sorted(began_s.items(), key=lambda one: one[1]):
        demand.away(session, 100, ("p", "human"), since_s)
        demand.tokens(since_s)
    for now_s in range(600, 1200, 5):
        found = demand.tokens(now_s)
    whole = sum(100 * gaps.chance("p", "human", now_s - since_s, WITHIN_S) for since_s in began_s.values())
    assert found == pytest.approx(whole, rel=0.1)
