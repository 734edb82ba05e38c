"""Residents: what sessions need of each cache, and how it falls while they are away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.errors import Bug
from agentic_serving.program.policy import Policy
from agentic_serving.program.residents import Residents

#: The default; absences are weighed at 0, 3, 7, 12 s and so on.
KEEP_S = Policy().keep_s


class Looked:
    """Weights by seconds of absence: 1 up to 10 s, then one half up to a minute, then nothing. 100 tokens each."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []
        self.tokens = 100

    def __call__(self, session: str, away_s: float) -> tuple[float, int]:
        self.asked.append((session, away_s))
        return (1.0 if away_s < 10 else 0.5 if away_s < 60 else 0.0), self.tokens


def test_all_of_a_turn_is_needed_and_an_absence_counts_less_and_less() -> None:
    residents = Residents(Looked(), keep_s=KEEP_S)
    residents.use("a", "r0", 250)
    residents.advance(1_000.0)
    assert (residents.needed("r0"), residents.home("a"), residents.own("a")) == (250.0, "r0", 250.0)
    residents.rest("a", 1_000.0)
    seen = []
    for at_s in (0.0, 11.0, 12.0, 59.0, 60.0):
        residents.advance(1_000.0 + at_s)
        seen.append(residents.needed("r0"))
        residents.check()
    assert seen == [100.0, 100.0, 50.0, 50.0, 0.0]
    assert (residents.home("a"), len(residents)) == (None, 0)


def test_one_that_comes_back_is_not_aged_by_its_earlier_absence() -> None:
    residents = Residents(Looked(), keep_s=KEEP_S)
    residents.use("a", "r0", 100)
    residents.rest("a", 0.0)
    residents.advance(2.0)
    residents.use("a", "r0", 120)
    residents.advance(500.0)
    assert residents.needed("r0") == 120.0
    residents.rest("a", 500.0)
    residents.advance(511.0)
    assert residents.needed("r0") == 100.0


def test_a_session_is_at_its_last_replica_only() -> None:
    residents = Residents(Looked(), keep_s=KEEP_S)
    residents.use("a", "r0", 100)
    residents.use("a", "r1", 130)
    assert [residents.needed(one) for one in ("r0", "r1")] == [0.0, 130.0]
    assert [residents.needs("a", one) for one in ("r0", "r1")] == [0.0, 130.0]


def test_several_share_a_replica_and_what_one_needs_is_its_own() -> None:
    residents = Residents(Looked(), keep_s=KEEP_S)
    for session, tokens in (("a", 100), ("b", 30)):
        residents.use(session, "r0", tokens)
    residents.forget("a")
    residents.forget("nobody")
    residents.rest("nobody", 1.0)
    assert (residents.needed("r0"), residents.needs("b", "r0"), residents.own("a")) == (30.0, 30.0, 0.0)


def test_a_replica_that_is_gone_takes_its_sessions_along() -> None:
    residents = Residents(Looked(), keep_s=KEEP_S)
    residents.use("a", "r0", 100)
    residents.use("b", "r1", 70)
    residents.gone("r0")
    residents.gone("never")
    assert (residents.needed("r0"), residents.needed("r1"), residents.home("a")) == (0.0, 70.0, None)
    residents.check()


def test_an_absence_is_looked_at_a_dozen_times_at_most_however_long_it_is() -> None:
    looked = Looked()
    residents = Residents(lambda session, away_s: (looked(session, away_s)[0] * 0 + 1.0, 100), keep_s=KEEP_S)
    residents.use("a", "r0", 100)
    residents.rest("a", 0.0)
    residents.advance(1e6)
    assert len(looked.asked) <= 12
    assert len(residents) == 0


def test_a_policy_for_faster_programs_looks_as_often_within_the_time_that_counts() -> None:
    """Scaled to a fortieth: 3 s, within which every absence ends, are still nine looks."""
    looked = Looked()
    residents = Residents(looked, keep_s=3.0)
    residents.use("a", "r0", 100)
    residents.rest("a", 100.0)
    residents.advance(102.9)
    assert [round(away_s * 40) for _, away_s in looked.asked] == [0, 3, 7, 12, 20, 30, 45, 60, 90]
    residents.advance(103.0)
    assert len(residents) == 0
    residents.configure(120.0)
    residents.use("a", "r0", 100)
    residents.rest("a", 200.0)
    residents.advance(211.0)
    assert residents.needed("r0") == 100.0


def test_a_sum_that_is_wrong_is_found() -> None:
    residents = Residents(Looked(), keep_s=KEEP_S)
    residents.use("a", "r0", 100)
    residents._needed["r0"] = 7.0
    with pytest.raises(Bug, match="does not add up"):
        residents.check()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["use", "rest", "forget", "gone", "wait"]),
            st.integers(0, 5),
            st.integers(0, 2),
            st.integers(0, 100),
        ),
        max_size=80,
    )
)
def test_sums_add_up_whatever_happens(steps: list[tuple[str, int, int, int]]) -> None:
    residents, now_s = Residents(Looked(), keep_s=KEEP_S), 0.0
    for what, session, replica, amount in steps:
        residents.advance(now_s)
        match what:
            case "use":
                residents.use(f"s{session}", f"r{replica}", amount)
            case "rest":
                residents.rest(f"s{session}", now_s)
            case "forget":
                residents.forget(f"s{session}")
            case "gone":
                residents.gone(f"r{replica}")
            case _:
                now_s += amount
        residents.check()
        assert all(residents.needed(f"r{i}") >= -1e-6 for i in range(3))
