"""simulation.engine: cases small enough to compute by hand. A pass takes 1 s, a prompt token 0.1 s."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentic_serving.errors import Bug, InvalidInput
from agentic_serving.fleet.tiers import Link, MemoryTier, Tier, TierConfig
from agentic_serving.simulation import (
    ClosedLoop,
    Gaps,
    OpenLoop,
    PolicyBase,
    ReplicaView,
    Result,
    Setup,
    TurnView,
    Workload,
    simulate,
    summary,
)
from agentic_serving.simulation.baselines import LeastLoad, RoundRobin, Routed
from agentic_serving.workload import Program, TurnId
from tests.unit.simulation.builders import chain, fleet, program, session, turn


def run(programs: Sequence[Program], setup: Setup, policy: object = None) -> Result:
    workload = Workload(programs, setup.fleet, setup.gaps)
    return simulate(workload, setup, policy or Routed(RoundRobin()))  # type: ignore[arg-type] # tests give any


def by_id(result: Result) -> dict[str, tuple[float, float]]:
    return {one.id: (one.arrived_s, one.finished_s) for one in result.turns}


class Never(PolicyBase):
    """Holds everything; asks again at `again_s`, once."""

    def __init__(self, again_s: float | None = None) -> None:
        self.again_s = again_s

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        return 0 if self.again_s is not None and now_s >= self.again_s else None

    def wake_s(self, now_s: float) -> float | None:
        return self.again_s


def test_a_turn_takes_its_prefill_and_the_next_one_only_what_is_new() -> None:
    """10 blocks: 1 + 4 s, then 2 more tokens. The 5 s gap; 12 blocks, of which 40 tokens and no answer block are cached."""
    result = run(
        [chain("a", turn(0, 10, output=3), turn(1, 12, gap_s=5.0))],
        Setup(fleet=fleet(), load=ClosedLoop(live=1)),
    )
    assert by_id(result) == {"a/a/0": (0.0, pytest.approx(7.0)), "a/a/1": (12.0, pytest.approx(13.8))}
    assert [one.cached_tokens for one in result.turns] == [0, 40]
    assert [one.first_token_s for one in result.turns] == [pytest.approx(5.0), pytest.approx(13.8)]


def test_the_next_prompt_hits_the_answer_s_full_blocks() -> None:
    result = run(
        [chain("a", turn(0, 10, output=9), turn(1, 13))], Setup(fleet=fleet(), load=ClosedLoop(live=1))
    )
    assert result.turns[1].cached_tokens == 48  # 40 of the prompt and two of the answer's blocks


def test_two_replicas_serve_two_programs_at_the_same_time_and_one_serves_them_in_one_batch() -> None:
    programs = [chain(name, turn(0, 10)) for name in "ab"]
    load = ClosedLoop(live=2)
    apart = run(programs, Setup(fleet=fleet(2), load=load))
    assert [one.finished_s for one in apart.turns] == pytest.approx([5.0, 5.0])
    together = run(programs, Setup(fleet=fleet(1), load=load))
    assert [one.finished_s for one in together.turns] == pytest.approx([9.0, 9.0])
    assert [task.slowdown for task in together.tasks] == pytest.approx([9 / 5, 9 / 5])


def test_arrivals_cut_a_step_that_skips() -> None:
    """`a` decodes from 5 s on; `b` comes at 7.5 s, so its prefill starts with the pass that begins at 8 s."""
    programs = [
        chain("a", turn(0, 10, output=101)),
        chain("b", turn(0, 10), start_s=7.5),
    ]
    result = run(programs, Setup(fleet=fleet(), load=OpenLoop()))
    assert by_id(result)["b/b/0"] == (7.5, pytest.approx(13.0))
    assert by_id(result)["a/a/0"] == (
        0.0,
        pytest.approx(109.0),
    )  # 100 passes, one of them with 4 s of prefill


def test_closed_loop_starts_the_next_when_one_ends() -> None:
    programs = [chain(name, turn(0, 10)) for name in "abc"]
    result = run(programs, Setup(fleet=fleet(), load=ClosedLoop(live=1), shuffle=False))
    assert by_id(result) == {
        "a/a/0": (0.0, pytest.approx(5.0)),
        "b/b/0": (5.0, pytest.approx(10.0)),
        "c/c/0": (10.0, pytest.approx(15.0)),
    }


def test_repetitions_share_no_cache_and_stop_at_the_horizon_where_ages_count() -> None:
    setup = Setup(fleet=fleet(), load=ClosedLoop(live=1, repeat=True), horizon_s=12.0)
    result = run([chain("a", turn(0, 10))], setup)
    assert [one.id for one in result.turns] == ["a/a/0", "a#1/a/0"]
    assert [one.cached_tokens for one in result.turns] == [0, 0]
    assert [(task.took_s, task.finished) for task in result.tasks] == [
        (pytest.approx(5.0), True),
        (pytest.approx(5.0), True),
        (pytest.approx(2.0), False),
    ]
    assert summary(result).unfinished_tasks == 1


def test_children_start_after_their_parent_and_the_join_waits_for_all_of_them() -> None:
    fan_out = program(
        "p",
        session("root", [turn(0, 10), turn(1, 12, gap_s=2.0, after=[TurnId("x", 0), TurnId("y", 1)])]),
        session("x", [turn(0, 5, first=100, after=[TurnId("root", 0)])], parent="root"),
        session(
            "y",
            [turn(0, 5, first=200, after=[TurnId("root", 0)]), turn(1, 6, first=200, gap_s=1.0)],
            parent="root",
        ),
    )
    result = run([fan_out], Setup(fleet=fleet(2), load=ClosedLoop(live=1)), Routed(LeastLoad()))
    times = by_id(result)
    assert times["p/x/0"] == times["p/y/0"] == (5.0, pytest.approx(8.0))
    assert times["p/y/1"][0] == pytest.approx(9.0)
    assert times["p/root/1"][0] == pytest.approx(times["p/y/1"][1] + 2.0)
    assert len(result.tasks) == 1
    assert result.tasks[0].took_s == pytest.approx(times["p/root/1"][1])


def test_a_task_ends_where_a_human_comes_in_and_the_run_leaves_their_gaps_out() -> None:
    talk = chain("a", turn(0, 10), turn(1, 10, gap_s=3.0), turn(2, 10, gap_s=100.0, kind="human"))
    result = run([talk], Setup(fleet=fleet(), load=ClosedLoop(live=1)))
    first = 5.0 + 3.0 + 1.4  # of 40 cached tokens the last block is computed again
    assert [task.took_s for task in result.tasks] == [pytest.approx(first), pytest.approx(1.4)]
    assert result.runs[0].took_s == pytest.approx(first + 1.4)
    assert result.runs[0].slowdown == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("gaps", "expected_s"),
    [
        (Gaps(), 30.0),
        (Gaps(tool_scale=0.5), 15.0),
        (Gaps(max_s=10.0), 10.0),
        (Gaps(human_scale=0.1), 30.0),
    ],
    ids=["as recorded", "scaled", "capped", "another kind"],
)
def test_gaps_are_scaled_and_capped(gaps: Gaps, expected_s: float) -> None:
    setup = Setup(fleet=fleet(), load=ClosedLoop(live=1), gaps=gaps)
    result = run([chain("a", turn(0, 10), turn(1, 10, gap_s=30.0))], setup)
    assert result.turns[1].arrived_s - result.turns[0].finished_s == pytest.approx(expected_s)


def test_recompute_is_what_was_computed_before_and_lost() -> None:
    """Round robin sends the second turn where its prefix is not."""
    setup = Setup(fleet=fleet(2), load=ClosedLoop(live=1))
    result = run([chain("a", turn(0, 10), turn(1, 12))], setup)
    assert [(one.repeated_tokens, one.recomputed_tokens) for one in result.turns] == [(0, 0), (40, 40)]
    assert summary(result).recompute_share == 1.0
    assert (
        summary(run([chain("a", turn(0, 10), turn(1, 12))], replace(setup, fleet=fleet()))).recompute_share
        == 0
    )


def host_memory() -> Sequence[Tier]:
    """Stores every prompt; reads a block a second."""
    config = TierConfig(source="host", capacity_blocks=1_000, block_bytes=1)
    return [MemoryTier(config, read=Link(1.0), write=Link(1e9))]


def test_what_another_program_evicted_comes_back_from_host_memory() -> None:
    """a's 10 blocks are evicted by b's 15 and loaded in 10 s, during which nothing runs; the rest is computed then."""
    programs = [chain("a", turn(0, 10), turn(1, 12, gap_s=20.0)), chain("b", turn(0, 15), start_s=6.0)]
    small = replace(fleet(n_blocks=17), tiers=host_memory)
    result = run(programs, Setup(fleet=small, load=OpenLoop()))
    last = result.turns[-1]
    assert (last.id, last.arrived_s, last.cached_tokens) == ("a/a/1", 25.0, 40)
    assert last.finished_s == pytest.approx(25.0 + 9.0 + 1.8)  # one of the ten was still there
    assert summary(result).recompute_share == 0.0


def test_holds_count_those_of_the_end_included() -> None:
    programs = [chain("a", turn(0, 10))]
    setup = Setup(fleet=fleet(), load=ClosedLoop(live=1), horizon_s=50.0)
    late = run(programs, setup, Never(again_s=20.0))
    assert (late.held_s, late.turns[0].held_s, late.turns[0].finished_s) == (20.0, 20.0, pytest.approx(25.0))
    assert run(programs, setup, Never(again_s=60.0)).held_s == 50.0
    with pytest.raises(Bug, match="for ever"):
        run(programs, setup, Never())


def test_a_replica_s_view_counts_what_is_under_way() -> None:
    seen: list[tuple[int, int]] = []

    class Watching(PolicyBase):
        def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
            seen.append((replicas[0].turns, replicas[0].prompt_tokens))
            return 0

    programs = [chain("a", turn(0, 10), turn(1, 12, gap_s=50.0)), chain("b", turn(0, 10))]
    run(programs, Setup(fleet=fleet(), load=ClosedLoop(live=2), shuffle=False), Watching())
    assert seen == [(0, 0), (1, 40), (0, 0)]


def test_the_seed_draws_the_order_of_programs() -> None:
    programs = [chain(str(i), turn(0, 2)) for i in range(8)]
    setup = Setup(fleet=fleet(), load=ClosedLoop(live=1))
    orders = [[one.id for one in run(programs, replace(setup, seed=seed)).turns] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_poisson_arrivals_depend_on_the_seed_alone() -> None:
    programs = [chain(str(i), turn(0, 2)) for i in range(20)]
    setup = Setup(fleet=fleet(), load=OpenLoop(per_s=0.5), seed=3)
    one, same = run(programs, setup), run(programs, setup, Routed(LeastLoad()))
    assert {t.id: t.arrived_s for t in one.turns} == {t.id: t.arrived_s for t in same.turns}
    assert run(programs, replace(setup, seed=4)).turns != one.turns


@pytest.mark.parametrize(
    ("programs", "message"),
    [
        ([chain("a", turn(0, 10_000))], "never fit"),
        ([chain("a", replace(turn(0, 1), block_size=8))], "blocks of 8"),
        ([chain("a", turn(0, 1)), chain("a", turn(0, 1))], "same id"),
        (
            [
                program(
                    "p",
                    session("x", [turn(0, 1, after=[TurnId("y", 0)])]),
                    session("y", [turn(0, 1, after=[TurnId("x", 0)])]),
                )
            ],
            "wait for each other",
        ),
    ],
    ids=["too large", "other blocks", "twice", "a circle"],
)
def test_programs_that_cannot_run_are_refused(programs: list[Program], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Workload(programs, fleet(), Gaps())


def test_a_workload_made_for_other_replicas_is_refused() -> None:
    workload = Workload([chain("a", turn(0, 1))], fleet(), Gaps())
    with pytest.raises(InvalidInput, match="other gaps"):
        simulate(workload, Setup(fleet=fleet(n_blocks=500), load=ClosedLoop(live=1)), Routed(RoundRobin()))
