"""simulation.oracle: Belady's choice by hand; no engine's cache beats it; with room for all it is the engine's."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.simulation import ClosedLoop, Gaps, Result, Setup, Workload, simulate, summary
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.simulation.oracle import belady
from agentic_serving.simulation.records import TurnRecord
from agentic_serving.simulation.setup import Fleet
from agentic_serving.workload import Program
from tests.unit.simulation.builders import chain, fleet, turn


def record(at_s: float, first: int, n_blocks: int, *, took_s: float = 0.5) -> TurnRecord:
    return TurnRecord(
        id=str(at_s),
        program="p",
        session="s",
        index=0,
        replica=0,
        arrived_s=at_s,
        placed_s=at_s,
        scheduled_s=at_s,
        first_token_s=at_s + took_s,
        finished_s=at_s + took_s,
        prompt_tokens=n_blocks * 4,
        output_tokens=1,
        cached_tokens=0,
        repeated_tokens=0,
        recomputed_tokens=0,
        preemptions=0,
        runs=((first, n_blocks),),
    )


def test_what_is_needed_last_goes_from_its_end() -> None:
    """Ten usable blocks, prompts of 4: when c comes, two of b go, which is needed after a. LRU would take a's."""
    room = fleet(n_blocks=11).limits
    chains = [0, 100, 200, 0, 100]
    turns = [record(float(at), first, 4) for at, first in enumerate(chains)]
    assert belady(turns, room).cached_tokens == 15 + 8  # all of a but its last token; half of b


def test_what_runs_is_not_evicted() -> None:
    """a (8 blocks) and b (6) in ten blocks. While a runs, b loses four; once a has ended, a does."""
    room = fleet(n_blocks=11).limits
    later = [record(1.0, 100, 6), record(6.0, 100, 6), record(9.0, 0, 8)]
    assert belady([record(0.0, 0, 8, took_s=4.5), *later], room).cached_tokens == 2 * 4 + 4 * 4
    assert belady([record(0.0, 0, 8, took_s=0.5), *later], room).cached_tokens == 23 + 4 * 4


PROGRAMS = st.lists(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 20)), min_size=1, max_size=5),
    min_size=1,
    max_size=8,
)


def served(drawn: list[list[tuple[int, int]]], room: Fleet) -> Result:
    programs: list[Program] = []
    for number, grown in enumerate(drawn):
        sizes = [sum(n for n, _ in grown[: i + 1]) for i in range(len(grown))]
        items = [
            turn(i, size, output=output, gap_s=1.0)
            for i, (size, (_, output)) in enumerate(zip(sizes, grown, strict=True))
        ]
        programs.append(chain(f"p{number}", *items))
    setup = Setup(fleet=room, load=ClosedLoop(live=4))
    return simulate(Workload(programs, room, Gaps()), setup, BASELINES["scorers"](room, 0))


@settings(max_examples=60, deadline=None)
@given(drawn=PROGRAMS)
def test_no_engine_beats_it_and_with_room_for_all_they_are_equal(drawn: list[list[tuple[int, int]]]) -> None:
    tight, roomy = fleet(2, n_blocks=90, max_seqs=3), fleet(2, n_blocks=10_000)
    result = served(drawn, tight)
    cached = sum(one.cached_tokens for one in result.turns)
    assert belady(result.turns, tight.limits).cached_tokens >= cached
    free = served(drawn, roomy)
    bound = belady(free.turns, roomy.limits)
    assert bound.recompute_share <= summary(free).recompute_share
    lost = sum(one.recomputed_tokens for one in free.turns)
    elsewhere = bound.repeated_tokens - bound.cached_tokens
    assert elsewhere <= lost  # only what another replica has is computed again
