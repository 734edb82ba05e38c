"""Several stacks, and what clients declare. A pass takes 1 s, a prompt token 0.1 s, on the fast stack half of that."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation import (
    ClosedLoop,
    Gaps,
    Hints,
    OpenLoop,
    Policy,
    PolicyBase,
    ReplicaView,
    Result,
    Seat,
    Setup,
    Stacks,
    TurnHints,
    TurnView,
    Workload,
    simulate,
)
from agentic_serving.simulation.baselines import LeastLoad, Routed, SessionAffinity
from agentic_serving.workload import Program, TurnId
from tests.unit.simulation.builders import PROFILE, chain, fleet, program, session, turn

FAST = replace(fleet(2), profile=PROFILE.scaled(0.5))
STACKS = Stacks({"fast": FAST}, {"coder": "fast"})


def planner_and_coder(name: str = "p") -> Program:
    """The planner starts two coders (one of them with two turns), waits for both and writes the answer."""
    coder = [
        session("x", [turn(0, 5, first=100, after=[TurnId("root", 0)])], parent="root"),
        session(
            "y",
            [turn(0, 5, first=200, after=[TurnId("root", 0)]), turn(1, 15, first=200, gap_s=3.0)],
            parent="root",
        ),
    ]
    joins = [TurnId("x", 0), TurnId("y", 1)]
    return program(
        name,
        session("root", [turn(0, 10), turn(1, 12, gap_s=2.0, after=joins)]),
        *(replace(one, agent="coder") for one in coder),
    )


def run(setup: Setup, programs: Sequence[Program], make: object = None) -> tuple[Workload, Result]:
    workload = Workload(programs, setup.fleet, setup.gaps, setup.stacks)
    made = make or (lambda _seat: Routed(SessionAffinity()))
    return workload, simulate(workload, setup, made)  # type: ignore[arg-type] # tests give any


def test_agents_run_on_their_stacks_and_tasks_are_measured_from_end_to_end() -> None:
    """5 s; both coders at 5 s for 1.5 s; 3 s later one of them again for 2.5 s; the join 2 s after that for 1.8 s."""
    setup = Setup(fleet=fleet(), load=ClosedLoop(live=1), stacks=STACKS)
    workload, result = run(setup, [planner_and_coder()])
    assert {one.id: (one.stack, one.agent) for one in result.turns} == {
        "p/root/0": ("", "main"),
        "p/x/0": ("fast", "coder"),
        "p/y/0": ("fast", "coder"),
        "p/y/1": ("fast", "coder"),
        "p/root/1": ("", "main"),
    }
    times = {one.id: (one.arrived_s, one.finished_s) for one in result.turns}
    assert times["p/y/0"] == pytest.approx((5.0, 6.5))
    assert times["p/y/1"] == pytest.approx((9.5, 12.0))
    assert times["p/root/1"] == pytest.approx((14.0, 15.8))
    assert result.tasks[0].slowdown == pytest.approx(1.0)
    assert workload.alone(workload.scripts[0]).run_s == pytest.approx(15.8)


def test_every_stack_has_a_policy_of_its_own_and_a_maker_can_link_them() -> None:
    """Both are told of a program's end; a shared note makes one know what the other saw."""
    shared: list[tuple[str, str]] = []

    class Linked(PolicyBase):
        def __init__(self, seat: Seat) -> None:
            self.stack = seat.stack

        def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
            shared.append((self.stack, turn.agent))
            return 0

        def on_end(self, program: str, now_s: float) -> None:
            shared.append((self.stack, f"end of {program}"))

    run(Setup(fleet=fleet(), load=ClosedLoop(live=1), stacks=STACKS), [planner_and_coder()], Linked)
    assert set(shared) == {("", "main"), ("fast", "coder"), ("", "end of p"), ("fast", "end of p")}


def test_a_block_that_one_stack_computed_is_not_recomputed_on_another() -> None:
    """The coder's prompt begins as the planner's does; its model has never seen it."""
    one = program(
        "p",
        session("root", [turn(0, 10)]),
        replace(session("x", [turn(0, 20, after=[TurnId("root", 0)])], parent="root"), agent="coder"),
    )
    _, result = run(Setup(fleet=fleet(), load=ClosedLoop(live=1), stacks=STACKS), [one])
    assert [(t.stack, t.repeated_tokens, t.cached_tokens) for t in result.turns] == [
        ("", 0, 0),
        ("fast", 0, 0),
    ]
    _, same = run(Setup(fleet=fleet(), load=ClosedLoop(live=1)), [one])
    assert [(t.repeated_tokens, t.cached_tokens) for t in same.turns] == [(0, 0), (40, 40)]


def test_demand_counts_the_caches_of_all_stacks_that_are_named() -> None:
    workload = Workload([planner_and_coder()], fleet(), Gaps(), STACKS)
    assert workload.live_for(1.0, fleet(), FAST) == pytest.approx(3 * workload.live_for(1.0, fleet()), abs=2)


def test_stacks_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no stack 'slow'"):
        Stacks({"fast": FAST}, {"coder": "slow"})
    setup = Setup(fleet=fleet(), load=ClosedLoop(live=1), stacks=STACKS)
    with pytest.raises(InvalidInput, match="other gaps"):
        simulate(Workload([planner_and_coder()], fleet(), Gaps()), setup, lambda _seat: Routed(LeastLoad()))


class Reads(PolicyBase):
    """Remembers what clients declare."""

    def __init__(self) -> None:
        self.hints: dict[str, TurnHints | None] = {}

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        self.hints[turn.id] = turn.hints
        return 0


def declared(programs: Sequence[Program], hints: Hints | None, seed: int = 0) -> dict[str, TurnHints | None]:
    policy = Reads()
    setup = Setup(fleet=fleet(), load=OpenLoop(), hints=hints, seed=seed)
    simulate(Workload(programs, setup.fleet, setup.gaps), setup, policy)
    return policy.hints


def test_true_hints_say_what_will_be() -> None:
    """Alone: 5 s; x: 3 s; y: 3 s, 3 s gap, 5 s; the join 2 s after y's end for 1.8 s."""
    found = declared([planner_and_coder()], Hints())
    want = {
        "p/root/0": ("tool", 13.0, 2, 19.8),
        "p/x/0": ("end", None, 0, 6.8),
        "p/y/0": ("tool", 3.0, 0, 14.8),
        "p/y/1": ("end", None, 0, 8.8),
        "p/root/1": ("end", None, 0, 1.8),
    }
    for name, (follows, gap_s, fan_out, critical_s) in want.items():
        hint = found[name]
        assert hint is not None
        assert (hint.follows, hint.fan_out, hint.final) == (follows, fan_out, follows == "end")
        assert hint.gap_s == (None if gap_s is None else pytest.approx(gap_s))
        assert hint.critical_s == pytest.approx(critical_s)


def test_a_task_s_critical_path_ends_where_a_person_reads() -> None:
    talk = chain("a", turn(0, 10), turn(1, 10, gap_s=60.0, kind="human"))
    hint = declared([talk], Hints())["a/a/0"]
    assert hint == TurnHints(follows="human", gap_s=60.0, fan_out=0, critical_s=5.0)


def test_nothing_is_declared_unless_asked_for() -> None:
    assert set(declared([planner_and_coder()], None).values()) == {None}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), share=st.floats(0.0, 1.0), adversarial=st.booleans())
def test_so_many_hints_are_true_and_more_of_the_same_with_a_higher_share(
    seed: int, share: float, adversarial: bool
) -> None:
    programs = [
        chain(f"p{i}", turn(0, 10 + i), turn(1, 40 + i, gap_s=float(i + 1)), start_s=float(i))
        for i in range(40)
    ]
    truth = declared(programs, Hints(), seed)
    some = declared(programs, Hints(share_right=share, adversarial=adversarial), seed)
    again = declared(programs, Hints(share_right=share, adversarial=adversarial), seed)
    more = declared(programs, Hints(share_right=(1 + share) / 2, adversarial=adversarial), seed)
    right = {name for name in truth if some[name] == truth[name]}
    assert some == again
    assert abs(len(right) - share * 80) <= 25
    if adversarial:
        assert right <= {name for name in truth if more[name] == truth[name]}


def test_adversarial_hints_say_the_opposite() -> None:
    programs = [
        chain("a", turn(0, 10), turn(1, 21, gap_s=5.0)),
        chain("b", turn(0, 50), turn(1, 60, gap_s=9.0)),
    ]
    truth = declared(programs, Hints())
    lies = declared(programs, Hints(share_right=0.0, adversarial=True))
    for name, hint in truth.items():
        told = lies[name]
        assert hint is not None
        assert told is not None
        assert told.final != hint.final
    by_truth = sorted(truth, key=lambda name: truth[name].critical_s)  # type: ignore[union-attr] # checked above
    by_lies = sorted(lies, key=lambda name: lies[name].critical_s)  # type: ignore[union-attr] # checked above
    assert by_truth == by_lies[::-1]


def test_hints_change_nothing_for_a_policy_that_does_not_read_them() -> None:
    setup = Setup(fleet=fleet(2), load=ClosedLoop(live=2))
    workload = Workload([planner_and_coder("p"), planner_and_coder("q")], setup.fleet, setup.gaps)

    def policy() -> Policy:
        return Routed(LeastLoad())

    assert simulate(workload, replace(setup, hints=Hints()), policy()) == simulate(workload, setup, policy())
