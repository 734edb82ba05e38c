"""Join latency and prefills of a shared prefix: on a program small enough to compute by hand, then on generated ones."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation import (
    ClosedLoop,
    Fleet,
    Gaps,
    PolicyBase,
    PrefillPool,
    ReplicaView,
    Result,
    Setup,
    TurnView,
    Workload,
    simulate,
)
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.simulation.joins import Place, join_summary, joins
from agentic_serving.workload import Program, Turn, TurnId
from agentic_serving.workload.generate import generate
from tests.unit.simulation.builders import fleet, program, session, turn


class Fixed(PolicyBase):
    """Every session has its replica."""

    def __init__(self, replicas: dict[str, int]) -> None:
        self._replicas = replicas

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int:
        return self._replicas.get(turn.session.rpartition("/")[2], 0)


def child_turn(index: int, first: int, own: int, *, gap_s: float = 0.0) -> Turn:
    """10 blocks that all siblings have, and some of its own."""
    after = () if index else (TurnId("main", 0),)
    return replace(
        turn(index, 10 + own, gap_s=gap_s, after=after), runs=((0, 10), (first, own)) if own else ((0, 10),)
    )


def fan_out() -> Program:
    """The parent's turn takes 3 s. Then `a`, `b` and `c` start; `b` has a second turn after a tool of 2 s."""
    return program(
        "p",
        session("main", [turn(0, 5, first=1000)]),
        session("a", [child_turn(0, 100, 2)], parent="main"),
        session("b", [child_turn(0, 200, 2), child_turn(1, 200, 4, gap_s=2.0)], parent="main"),
        session("c", [child_turn(0, 300, 2)], parent="main"),
    )


def run(setup: Setup, replicas: dict[str, int], programs: Sequence[Program] = ()) -> tuple[Result, Workload]:
    workload = Workload(programs or [fan_out()], setup.fleet, setup.gaps)
    return simulate(workload, setup, Fixed(replicas)), workload


def test_a_fan_out_joins_when_the_last_turn_of_the_slowest_child_ends() -> None:
    """Apart: 1 + 4.8 s for each first turn, then 2 s, then 1 + 0.8 s. With no contention only one child computes the
    prefix (5.8 s) and `b` ends 5.6 s after the fork."""
    result, workload = run(Setup(fleet=fleet(3), load=ClosedLoop(live=1)), {"b": 1, "c": 2})
    (join,) = joins(result, workload)
    assert (join.latency.arrived_s, join.latency.took_s) == pytest.approx((3.0, 9.6))
    assert join.latency.finished
    assert join.latency.alone_s == pytest.approx(5.8)
    assert join.children == ("p/a", "p/b", "p/c")
    assert join.siblings == 3


def test_a_prefix_is_prefilled_once_on_each_replica_that_is_used() -> None:
    result, workload = run(Setup(fleet=fleet(3, max_seqs=1), load=ClosedLoop(live=1)), {"c": 2})
    (join,) = joins(result, workload)
    assert join.shared_tokens == 40
    assert join.prefills == {Place("", 0): 1, Place("", 2): 1}
    assert join.computed_tokens == 80
    assert join_summary([join]).prefilled_again == 0
    assert join_summary([join]).computed_share == 1.0


@pytest.mark.parametrize(("cached", "prefills"), [(0, 2), (16, 2), (20, 1), (40, 1)])
def test_a_sibling_that_finds_less_than_half_of_the_prefix_has_prefilled_it_again(
    cached: int, prefills: int
) -> None:
    result, workload = run(Setup(fleet=fleet(1, max_seqs=1), load=ClosedLoop(live=1)), {})
    lost = [replace(one, cached_tokens=cached) if one.id == "p/b/0" else one for one in result.turns]
    (join,) = joins(replace(result, turns=tuple(lost)), workload)
    assert join.prefills == {Place("", 0): prefills}
    assert join_summary([join]).computed_share == pytest.approx((40 + 40 - cached) / 40)
    assert join_summary([join]).prefilled_again == (prefills > 1)


def test_a_replica_that_only_prefills_is_the_one_that_is_charged() -> None:
    pool = PrefillPool(n_replicas=1, kv_token_bytes=1, bytes_per_s=1e9, uncached_token_threshold=1)
    setup = Setup(fleet=replace(fleet(3), prefill=pool), load=ClosedLoop(live=1))
    result, workload = run(setup, {"b": 1, "c": 2})
    (join,) = joins(result, workload)
    assert list(join.prefills) == [Place("", 0, prefill_only=True)]


def test_a_fan_out_that_has_not_joined_counts_with_its_age_and_one_that_has_not_begun_does_not() -> None:
    for horizon_s, ages in ((2.0, []), (10.0, [7.0])):
        setup = Setup(fleet=fleet(3), load=ClosedLoop(live=1), horizon_s=horizon_s)
        found = joins(*run(setup, {"b": 1, "c": 2}))
        assert [one.latency.took_s for one in found] == pytest.approx(ages)
        assert not any(one.latency.finished for one in found)
        assert join_summary(found).unfinished == len(ages)


def test_every_lap_has_its_fan_outs() -> None:
    setup = Setup(fleet=fleet(3), load=ClosedLoop(live=1, repeat=True), horizon_s=40.0)
    found = joins(*run(setup, {"b": 1, "c": 2}))
    assert [one.latency.id for one in found][:2] == ["p/fork0", "p#1/fork0"]
    assert [one.latency.took_s for one in found][:2] == pytest.approx([9.6, 9.6])


def test_sessions_that_nothing_started_fan_out_with_their_program() -> None:
    samples = [session(name, [turn(0, 10)], parent="a" if name != "a" else None) for name in "abc"]
    setup = Setup(fleet=fleet(1, max_seqs=1), load=ClosedLoop(live=1))
    (join,) = joins(*run(setup, {}, [program("p", *samples)]))
    last = 5.0 + 2 * 1.4  # a prompt that is cached whole computes its last block again
    assert join.latency.arrived_s == 0.0
    assert join.latency.took_s == pytest.approx(last)
    assert join.prefills == {Place("", 0): 1}


def test_chains_have_no_joins() -> None:
    setup = Setup(fleet=fleet(1), load=ClosedLoop(live=1))
    found = joins(*run(setup, {}, [program("p", session("main", [turn(0, 5), turn(1, 6)]))]))
    assert found == ()
    assert join_summary(found).latency_s.n == 0


@pytest.mark.parametrize(
    ("kind", "options", "forks"),
    [
        ("fan-out", {"children": (4, 8), "forks": 2, "child_turns": (2, 1)}, 2),
        ("tree-search", {"calls": (42, 0)}, 4),
        ("rollouts", {"samples": 32, "answer_tokens": (100, 100)}, 1),
    ],
)
def test_generated_fan_outs_join(kind: str, options: dict[str, object], forks: int) -> None:
    programs = generate(kind, 4, 1, **options)
    limits = Limits(n_blocks=4_000, block_size=64, max_seqs=16)
    replicas = Fleet(n_replicas=3, limits=limits, profile=find_profile("sketch"))
    workload = Workload(programs, replicas, Gaps())
    setup = Setup(fleet=replicas, load=ClosedLoop(live=2))
    result = simulate(workload, setup, BASELINES["scorers"](replicas, 1))
    found = joins(result, workload)
    assert len(found) == 4 * forks
    assert all(one.latency.finished and one.latency.slowdown > 0.99 for one in found)
    assert all(1 <= len(one.prefills) <= 3 for one in found)
