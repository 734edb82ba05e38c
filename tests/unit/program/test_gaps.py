"""The gap model: it starts at the published figures, learns each program's own, and stays bounded."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.gaps import HUMAN, GapModel

SECONDS = st.floats(0, 30_000)
NAMES = st.sampled_from(["Bash", "Read", HUMAN, "x" * 10_000])


def test_before_it_learned_anything_it_says_what_was_published() -> None:
    gaps = GapModel()
    assert gaps.median("p", "Bash") == pytest.approx(1.0, rel=0.1)
    assert gaps.chance("p", "Bash", 0, 23.5) == pytest.approx(0.9, abs=0.02)
    # 25.7 % of those who return do so after 5 min; one in ten is taken not to return
    assert gaps.chance("p", HUMAN, 0, 300) == pytest.approx(0.743 * 0.9, abs=0.02)


def test_the_learned_distribution_becomes_that_of_the_gaps() -> None:
    gaps, random = GapModel(), Random(1)
    for _ in range(3000):
        gaps.learn("p", "Bash", random.lognormvariate(2, 0.7))
    for within_s in (2, 5, math.exp(2), 15, 40):
        truth = 0.5 * (1 + math.erf((math.log(within_s) - 2) / (0.7 * math.sqrt(2))))
        assert gaps.chance("p", "Bash", 0, within_s) == pytest.approx(truth, abs=0.06)
    assert gaps.median("p", "Bash") == pytest.approx(math.exp(2), rel=0.15)


def test_what_is_new_to_a_program_falls_back_on_its_other_tools_then_on_all_programs() -> None:
    gaps = GapModel()
    for _ in range(200):
        gaps.learn("slow", "Build", 600)
    for _ in range(200):
        gaps.learn("quick", "Read", 0.1)
    assert gaps.median("slow", "Test") > 100
    assert gaps.median("quick", "Test") < 1
    assert gaps.median("slow", HUMAN) == GapModel().median("slow", HUMAN)


def test_it_forgets_what_was_long_ago() -> None:
    gaps = GapModel()
    for gap_s in [100.0] * 2000 + [1.0] * 2000:
        gaps.learn("p", "Bash", gap_s)
    assert gaps.median("p", "Bash") == pytest.approx(1.0, rel=0.4)
    assert gaps.chance("p", "Bash", 0, 2) > 0.9


def test_sessions_that_never_return_make_the_median_endless() -> None:
    gaps = GapModel()
    for _ in range(30):
        gaps.learn("p", HUMAN, 10)
        for _ in range(3):
            gaps.learn_end("p", HUMAN)
    assert gaps.median("p", HUMAN) == math.inf
    assert gaps.chance("p", HUMAN, 0, 60) < 0.5


def test_the_longer_it_has_been_away_beyond_its_habit_the_less_likely_it_is_back_soon() -> None:
    gaps = GapModel()
    for _ in range(500):
        gaps.learn("p", "Bash", 2.0)
    assert gaps.chance("p", "Bash", 0, 5) > 0.9 > 0.5 > gaps.chance("p", "Bash", 600, 5)


def test_one_programs_many_tools_do_not_push_out_another_programs() -> None:
    gaps = GapModel(max_keys=64)
    for _ in range(100):
        gaps.learn("good", "Bash", 500)
    for i in range(10_000):
        gaps.learn("flood", f"tool-{i}" * 100, 0.01)
    gaps.check()
    assert len(gaps) <= 64
    assert gaps.median("good", "Bash") == pytest.approx(500, rel=0.4)


@given(
    st.lists(st.tuples(NAMES, NAMES, SECONDS), max_size=60),
    SECONDS,
    st.lists(SECONDS, min_size=2, max_size=8),
)
def test_chances_are_chances_and_grow_with_the_time_allowed(
    learned: list[tuple[str, str, float]], elapsed_s: float, allowed: list[float]
) -> None:
    gaps = GapModel(max_keys=4)
    for program, cause, gap_s in learned:
        gaps.learn(program, cause, gap_s) if gap_s < 20_000 else gaps.learn_end(program, cause)
    gaps.check()
    for cause in ("Bash", HUMAN):
        chances = [gaps.chance("Read", cause, elapsed_s, within_s) for within_s in sorted(allowed)]
        assert chances == sorted(chances)
        assert all(0 <= chance <= 1 for chance in chances)
        median_s = gaps.median("Read", cause, elapsed_s)
        if 0 < median_s < math.inf and elapsed_s + median_s > 0.011:
            assert gaps.chance("Read", cause, elapsed_s, median_s) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("gap_s", [-1.0, 0.0, math.nan, math.inf, 1e300], ids=str)
def test_times_that_cannot_be_do_no_harm(gap_s: float) -> None:
    gaps = GapModel()
    gaps.learn("p", "Bash", gap_s)
    assert 0 <= gaps.chance("p", "Bash", gap_s, 60) <= 1
    assert gaps.median("p", "Bash") > 0
