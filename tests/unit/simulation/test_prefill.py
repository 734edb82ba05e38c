"""Prefill and decode apart. A pass takes 1 s, a prompt token 0.1 s, a block of four tokens 0.05 s over the link."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation import (
    ClosedLoop,
    Failure,
    Fleet,
    Gaps,
    Policy,
    PolicyBase,
    PrefillPool,
    ReplicaView,
    Result,
    Setup,
    TurnView,
    Workload,
    simulate,
    summary,
)
from agentic_serving.simulation.baselines import BASELINES, LeastLoad, Routed
from agentic_serving.workload import Program
from tests.unit.simulation.builders import chain, fleet, turn

POOL = PrefillPool(n_replicas=1, kv_token_bytes=1, bytes_per_s=80.0, uncached_token_threshold=16)


def apart(decode: int = 1, pool: PrefillPool = POOL, *, n_blocks: int = 1_000) -> Fleet:
    return replace(fleet(decode, n_blocks=n_blocks), prefill=pool)


def run(programs: Sequence[Program], setup: Setup, policy: Policy | None = None) -> Result:
    return simulate(Workload(programs, setup.fleet, Gaps()), setup, policy or Routed(LeastLoad()))


def test_a_prompt_is_prefilled_transferred_and_then_decoded() -> None:
    """1 + 4 s prefill; 10 blocks in 0.5 s; the last prompt token again, 1.1 s, and two more passes."""
    setup = Setup(fleet=apart(), load=ClosedLoop(live=1))
    [record] = run([chain("a", turn(0, 10, output=3))], setup).turns
    assert (record.prefill, record.scheduled_s, record.prefilled_s) == (0, 0.0, 5.0)
    assert [record.first_token_s, record.finished_s] == pytest.approx([6.6, 8.6])
    assert (record.transferred_tokens, record.transferred_bytes) == (40, 40)
    assert (record.cached_tokens, record.recomputed_tokens) == (0, 0)


def test_few_uncached_tokens_are_prefilled_where_they_decode() -> None:
    """The second turn has 8 new tokens, the third 20: prefilled apart, where the first one's blocks still are."""
    programs = [chain("a", turn(0, 10), turn(1, 12), turn(2, 17))]
    first, second, third = run(programs, Setup(fleet=apart(), load=ClosedLoop(live=1))).turns
    assert [one.prefill for one in (first, second, third)] == [0, None, 0]
    assert [one.cached_tokens for one in (first, second, third)] == [0, 40, 40]
    assert second.transferred_tokens == 0
    # 48 tokens are on the decode replica already. The two blocks between were computed there and are computed again.
    assert third.transferred_bytes == (17 - 12) * 4
    assert (third.repeated_tokens, third.recomputed_tokens) == (48, 8)


def test_long_prompts_do_not_stop_others_from_decoding_when_they_are_prefilled_elsewhere() -> None:
    """`a` decodes 60 passes of 1 s; the 40 s prefill of `b` stands in its way on the same replica alone."""
    programs = [chain("a", turn(0, 3, output=60)), chain("b", turn(0, 100, first=500), start_s=5.0)]
    together = Setup(fleet=fleet(), load=ClosedLoop(live=2))
    ends = {one.id: one.finished_s for one in run(programs, together).turns}
    split = {one.id: one.finished_s for one in run(programs, replace(together, fleet=apart())).turns}
    assert ends["a/a/0"] > 100.0
    assert split["a/a/0"] < 70.0


class Refuses(PolicyBase):
    """Everything on the first replica, with prefill at `prefill`; remembers what it saw of those that prefill."""

    def __init__(self, prefill: int | None) -> None:
        self.prefill = prefill
        self.seen: list[tuple[int, list[tuple[int, int]]]] = []

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        return 0

    def place_prefill(
        self, turn: TurnView, replicas: Sequence[ReplicaView], decode: int, now_s: float
    ) -> int | None:
        self.seen.append((decode, [(one.turns, one.prompt_tokens) for one in replicas]))
        return self.prefill


@pytest.mark.parametrize("prefill", [None, 1])
def test_a_policy_may_say_where_and_whether(prefill: int | None) -> None:
    policy = Refuses(prefill)
    setup = Setup(fleet=apart(1, replace(POOL, n_replicas=2)), load=ClosedLoop(live=2), shuffle=False)
    result = run([chain("a", turn(0, 10)), chain("b", turn(0, 10))], setup, policy)
    assert [one.prefill for one in result.turns] == [prefill, prefill]
    second = (0, 0) if prefill is None else (1, 40)
    assert policy.seen == [(0, [(0, 0), (0, 0)]), (0, [(0, 0), second])]


def test_without_a_word_of_the_policy_prompts_go_where_least_is_to_compute() -> None:
    """Two at once are spread; a's long continuation goes where its prefix was prefilled."""
    setup = Setup(fleet=apart(1, replace(POOL, n_replicas=2)), load=ClosedLoop(live=2), shuffle=False)
    programs = [chain("a", turn(0, 10), turn(1, 30, gap_s=50.0)), chain("b", turn(0, 10))]
    places = {one.id: one.prefill for one in run(programs, setup).turns}
    assert places == {"a/a/0": 0, "b/b/0": 1, "a/a/1": 0}


def test_what_has_been_prefilled_counts_no_more() -> None:
    """One after the other, both go to the first of two; a policy sees it idle again."""
    programs = [chain("a", turn(0, 10)), chain("b", turn(0, 10))]
    setup = Setup(fleet=apart(1, replace(POOL, n_replicas=2)), load=ClosedLoop(live=1))
    assert [one.prefill for one in run(programs, setup).turns] == [0, 0]
    policy = Refuses(0)
    run(programs, setup, policy)
    assert policy.seen == [(0, [(0, 0), (0, 0)])] * 2


def test_a_prompt_too_large_for_the_prefill_cache_is_prefilled_where_it_decodes() -> None:
    small = replace(POOL, limits=replace(fleet().limits, n_blocks=8))
    [record] = run([chain("a", turn(0, 10))], Setup(fleet=apart(1, small), load=ClosedLoop(live=1))).turns
    assert record.prefill is None


@pytest.mark.parametrize(
    ("role", "at_s", "tries", "prefill"),
    [("prefill", 3.0, 1, None), ("prefill", 5.2, 1, None), ("decode", 3.0, 2, 0), ("decode", 5.2, 2, 0)],
    ids=["while prefilling", "while its KV is fetched", "decode, while prefilling", "decode, while fetching"],
)
def test_what_dies_between_prefill_and_decode_costs_time_and_no_answer(
    role: str, at_s: float, tries: int, prefill: int | None
) -> None:
    failure = Failure(replica=0, at_s=at_s, down_s=0.5, role=role)  # type: ignore[arg-type] # a parameter
    setup = Setup(fleet=apart(), load=ClosedLoop(live=1), failures=(failure,))
    [record] = run([chain("a", turn(0, 10))], setup).turns
    assert (record.tries, record.prefill) == (tries, prefill)
    assert record.finished_s > 6.6


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=10, deadline=None)
@given(
    blocks=st.lists(st.integers(1, 15), min_size=2, max_size=5),
    threshold=st.integers(1, 60),
    n_prefill=st.integers(1, 2),
    dies_s=st.none() | st.floats(0.0, 30.0),
)
def test_every_turn_is_answered_once_and_no_block_stays_held(
    name: str, blocks: list[int], threshold: int, n_prefill: int, dies_s: float | None
) -> None:
    """Tight caches: held KV that is never released would stop everything."""
    pool = replace(POOL, n_replicas=n_prefill, uncached_token_threshold=threshold)
    programs = []
    for number in range(5):
        sizes = [sum(blocks[: i + 1]) for i in range(len(blocks))]
        programs.append(chain(f"p{number}", *(turn(i, n, output=5) for i, n in enumerate(sizes))))
    failures = () if dies_s is None else (Failure(replica=0, at_s=dies_s, down_s=5.0, role="prefill"),)
    setup = Setup(fleet=apart(2, pool, n_blocks=sum(blocks) + 10), load=ClosedLoop(live=4), failures=failures)
    result = run(programs, setup, BASELINES[name](setup.fleet, 0))
    assert len({one.id for one in result.turns}) == len(result.turns) == 5 * len(blocks)
    for one in result.turns:
        assert one.arrived_s <= one.placed_s < one.first_token_s <= one.finished_s
        assert one.prefilled_s is None or one.placed_s < one.prefilled_s < one.first_token_s
        assert one.recomputed_tokens <= one.prompt_tokens - one.cached_tokens
    assert summary(result).transferred_bytes == sum(one.transferred_bytes for one in result.turns)


def test_where_nothing_reaches_the_threshold_nothing_is_apart() -> None:
    programs = [chain(f"p{i}", turn(0, 10, output=5), turn(1, 14, gap_s=2.0)) for i in range(6)]
    plain = Setup(fleet=fleet(2, n_blocks=40), load=ClosedLoop(live=3))
    never = replace(POOL, uncached_token_threshold=1_000)
    assert run(programs, replace(plain, fleet=apart(2, never, n_blocks=40))) == run(programs, plain)


def test_a_link_needs_a_rate_and_both_sides_one_block_size() -> None:
    with pytest.raises(InvalidInput, match="bytes_per_s"):
        replace(POOL, bytes_per_s=0.0)
    with pytest.raises(InvalidInput, match="block size"):
        apart(1, replace(POOL, limits=replace(fleet().limits, block_size=8)))
