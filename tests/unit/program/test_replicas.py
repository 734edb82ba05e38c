"""A replica's prefill in flight, its speed, and its recompute budget."""

import pytest

from agentic_serving.program.policy import Policy
from agentic_serving.program.replicas import Replica

POLICY = Policy(small_tokens=8_000, prefill_tokens=16_000, recompute_budget=0.1, budget_cap_s=5.0)


def replica(*, max_seqs: int = 4, tokens_per_s: float = 1_000.0) -> Replica:
    made = Replica("r0", max_seqs)
    made.tokens_per_s = tokens_per_s
    return made


@pytest.mark.parametrize(
    ("pending", "uncached", "takes"),
    [
        ((), 500_000, True),  # however long, if nothing else is computed
        ((10_000,), 6_000, True),
        ((10_000,), 8_000, True),  # small: never worth a wait
        ((10_000,), 8_001, False),
        ((4_000,), 12_000, True),
        ((4_000,), 12_001, False),
        ((0,), 500_000, True),
        ((1, 1, 1, 1), 1, False),  # all its places are taken
    ],
)
def test_takes_prefill_up_to_two_steps(pending: tuple[int, ...], uncached: int, takes: bool) -> None:
    one = replica()
    for tokens in pending:
        one.begin(tokens)
    assert one.takes(uncached, POLICY) is takes


def test_turns_are_counted_until_they_leave() -> None:
    one = replica()
    for _ in range(3):
        one.begin(100)
    one.first_token(100, 0.0, 1.0, timed=False)
    assert (one.turns, one.prefills, one.decoding, one.pending) == (3, 2, 1, 200)
    one.leave(None)  # it had its first token
    one.leave(100)
    assert (one.turns, one.prefills, one.decoding, one.pending) == (1, 1, 0, 100)


@pytest.mark.parametrize(
    ("timed", "took_s", "moves"),
    [(True, 10.0, True), (False, 10.0, False), (True, 0.0, False)],
    ids=["timed", "not", "at once"],
)
def test_speed_is_measured_where_it_can_be(timed: bool, took_s: float, moves: bool) -> None:
    one = replica()
    one.begin(20_000)
    one.first_token(20_000, 100.0, 100.0 + took_s, timed=timed)
    assert (one.tokens_per_s > 1_000.0) is moves


def test_speed_comes_to_what_it_is_and_prompts_in_a_row_are_timed_one_by_one() -> None:
    """Ten at once are computed one after another, 10 s each."""
    one = replica()
    for round_ in range(30):
        began_s = round_ * 200.0
        for _ in range(10):
            one.begin(20_000)
        for i in range(10):
            one.first_token(20_000, began_s, began_s + 10.0 * (i + 1))
    assert one.tokens_per_s == pytest.approx(2_000.0, rel=0.01)


def test_the_budget_is_a_share_of_time_up_to_a_cap() -> None:
    one = replica()
    seen = [one.spare(POLICY, at_s) for at_s in (100.0, 110.0, 1_000.0)]
    assert seen == [0.0, pytest.approx(1_000.0), pytest.approx(5_000.0)]
    one.spend(2_000.0)
    assert one.spare(POLICY, 1_000.0) == pytest.approx(3_000.0)


def test_computing_again_costs_those_that_decode_beside_it() -> None:
    one = replica()
    assert one.cost_s(2_000.0) == 2.0
    for _ in range(3):
        one.begin(100)
        one.first_token(100, 0.0, 1.0, timed=False)
    assert one.cost_s(2_000.0) == 8.0
    one.spare(POLICY, 0.0)
    assert one.spare(POLICY, 20.0) == pytest.approx(500.0)  # 2 s of four


def test_the_budget_never_pays_more_than_there_is() -> None:
    one = replica()
    one.spare(POLICY, 0.0)
    one.spend(one.spare(POLICY, 30.0))
    assert one.spare(POLICY, 30.0) == pytest.approx(0.0)
