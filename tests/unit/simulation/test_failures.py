"""Replicas that die, and clients that lose patience. A pass takes 1 s, a prompt token 0.1 s."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation import (
    ClosedLoop,
    Failure,
    Gaps,
    OpenLoop,
    Policy,
    PolicyBase,
    ReplicaView,
    Result,
    Setup,
    TurnView,
    Workload,
    simulate,
    summary,
)
from agentic_serving.simulation.baselines import BASELINES, LeastLoad, RoundRobin, Routed
from agentic_serving.workload import Program, TurnId
from tests.unit.simulation.builders import chain, fleet, program, session, turn

ONE = Setup(fleet=fleet(), load=ClosedLoop(live=1))


def run(programs: Sequence[Program], setup: Setup, policy: Policy | None = None) -> Result:
    return simulate(Workload(programs, setup.fleet, Gaps()), setup, policy or Routed(LeastLoad()))


class Fixed(PolicyBase):
    """Always the same replica, whatever its view says; remembers what it was told and shown."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, int | None, float]] = []
        self.ready_seen: list[tuple[bool, ...]] = []
        self.tries: list[tuple[str, int]] = []
        self.loads: list[tuple[int, int]] = []

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        self.ready_seen.append(tuple(one.ready for one in replicas))
        self.tries.append((turn.id, turn.retry))
        self.loads.append((replicas[0].turns, replicas[0].prompt_tokens))
        return 0

    def on_fail(self, turn: TurnView, replica: int | None, now_s: float) -> None:
        self.failed.append((turn.id, replica, now_s))


def test_a_turn_on_a_replica_that_dies_comes_again_and_its_time_counts_from_the_first_arrival() -> None:
    """Dies at 3 s of 5; tried again at 4 s, when the replica is there again."""
    policy = Fixed()
    failing = replace(ONE, failures=(Failure(replica=0, at_s=3.0, down_s=0.5),))
    result = run([chain("a", turn(0, 10))], failing, policy)
    [record] = result.turns
    assert (record.id, record.arrived_s, record.placed_s, record.finished_s) == ("a/a/0", 0.0, 4.0, 9.0)
    assert (record.tries, record.retried_s, record.held_s) == (2, 4.0, 0.0)
    assert result.tasks[0].took_s == pytest.approx(9.0)
    assert policy.failed == [("a/a/0", 0, 3.0)]
    assert policy.tries == [("a/a/0", 0), ("a/a/0~1", 1)]
    assert policy.loads == [(0, 0), (0, 0)]  # what failed is not under way any more
    assert summary(result).failed == 1


def test_what_a_replica_had_cached_is_lost_with_it() -> None:
    programs = [chain("a", turn(0, 10), turn(1, 12, gap_s=10.0))]
    failing = replace(ONE, failures=(Failure(replica=0, at_s=7.0, down_s=1.0),))
    assert [one.cached_tokens for one in run(programs, ONE).turns] == [0, 40]
    lost = run(programs, failing).turns
    assert [(one.cached_tokens, one.recomputed_tokens) for one in lost] == [(0, 0), (0, 40)]


def test_a_turn_for_a_replica_that_is_down_goes_elsewhere_and_is_counted() -> None:
    policy = Fixed()
    setup = replace(ONE, fleet=fleet(2), failures=(Failure(replica=0, at_s=0.0, down_s=100.0),))
    result = run([chain("a", turn(0, 10), turn(1, 12))], setup, policy)
    assert [one.replica for one in result.turns] == [1, 1]
    assert result.misplaced == 2
    assert policy.ready_seen == [(False, True)] * 2


def test_with_all_replicas_down_turns_are_held_until_one_is_there() -> None:
    setup = replace(ONE, failures=(Failure(replica=0, at_s=0.0, down_s=20.0),))
    [record] = run([chain("a", turn(0, 10))], setup).turns
    assert (record.placed_s, record.held_s, record.finished_s) == (20.0, 20.0, 25.0)


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=15, deadline=None)
@given(
    at_s=st.lists(st.floats(0.0, 90.0), min_size=1, max_size=4, unique=True),
    down_s=st.floats(0.5, 30.0),
    replica=st.integers(0, 2),
)
def test_every_baseline_answers_every_turn_whatever_dies_and_never_places_on_what_is_down(
    name: str, at_s: list[float], down_s: float, replica: int
) -> None:
    programs = [
        chain(f"p{i}", turn(0, 10, output=9), turn(1, 14, gap_s=3.0), turn(2, 20, gap_s=40.0))
        for i in range(6)
    ]
    failures = tuple(
        Failure(replica=(replica + i) % 3, at_s=one, down_s=down_s) for i, one in enumerate(sorted(at_s))
    )
    try:
        setup = Setup(fleet=fleet(3, n_blocks=60), load=ClosedLoop(live=4), failures=failures)
    except InvalidInput:
        return  # one fails while it is down
    result = run(programs, setup, BASELINES[name](setup.fleet, 0))
    assert sorted(one.id for one in result.turns) == sorted(
        f"p{i}/p{i}/{index}" for i in range(6) for index in range(3)
    )
    assert result.misplaced == 0
    assert sum(one.tries - 1 for one in result.turns) == result.failed
    assert all(one.finished for one in result.runs)


@pytest.mark.parametrize("name", ["thunder-ledger", "continuum-ttl"])
def test_a_ledger_keeps_no_room_for_what_a_replica_lost(name: str) -> None:
    """`a` dies at 1 s and comes again at 2 s; `b`, which does not fit beside it, may go at 1.8 s."""
    programs = [chain("a", turn(0, 60)), chain("b", turn(0, 60), start_s=1.8)]
    failure = Failure(replica=0, at_s=1.0, down_s=0.5)
    setup = Setup(fleet=fleet(n_blocks=100), load=OpenLoop(), failures=(failure,))
    result = run(programs, setup, BASELINES[name](setup.fleet, 0))
    assert {one.id: one.placed_s for one in result.turns}["b/b/0"] == 1.8


def test_tokens_of_a_turn_that_failed_are_not_in_flight_any_more() -> None:
    """`b` finds both replicas idle, and the first one is as good as the other."""
    programs = [chain("a", turn(0, 10)), chain("b", turn(0, 10), start_s=50.0)]
    failure = Failure(replica=0, at_s=1.0, down_s=0.5)
    setup = Setup(fleet=fleet(2), load=OpenLoop(), failures=(failure,))
    result = run(programs, setup, BASELINES["affinity-filter"](setup.fleet, 0))
    assert [(one.id, one.replica) for one in result.turns] == [("a/a/0", 0), ("b/b/0", 0)]


def test_equal_failures_give_equal_results() -> None:
    programs = [chain(f"p{i}", turn(0, 10, output=50)) for i in range(6)]
    setup = Setup(
        fleet=fleet(2), load=ClosedLoop(live=3), failures=(Failure(replica=1, at_s=9.0, down_s=4.0),)
    )
    assert run(programs, setup) == run(programs, setup)


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ((Failure(replica=1, at_s=0.0, down_s=1.0),), "no such replica"),
        ((Failure(replica=0, at_s=0.0, down_s=1.0, role="prefill"),), "no such replica"),
        ((Failure(replica=0, at_s=0.0, down_s=1.0, stack="vision"),), "no such replica"),
        (
            (Failure(replica=0, at_s=0.0, down_s=2.0), Failure(replica=0, at_s=1.0, down_s=2.0)),
            "while it is down",
        ),
    ],
    ids=["number", "role", "stack", "twice"],
)
def test_failures_that_cannot_be_are_refused(failures: tuple[Failure, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(ONE, failures=failures)


class Holds(Fixed):
    """Holds for ever; with `placing` only what is session `x`'s."""

    placing = False

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        if not self.placing or turn.session.endswith("/x"):
            return None
        return super().place(turn, replicas, now_s)


def test_a_client_tries_three_times_and_gives_up_its_program_and_the_next_one_starts() -> None:
    """Ten seconds each, a second between them: given up at 32 s."""
    policy = Holds()
    setup = replace(ONE, client_timeout_s=10.0, shuffle=False)
    result = run([chain("a", turn(0, 10)), chain("b", turn(0, 10))], setup, policy)
    assert policy.failed[:3] == [("a/a/0", None, 10.0), ("a/a/0~1", None, 21.0), ("a/a/0~2", None, 32.0)]
    assert (result.given_up, result.started, result.turns, result.end_s) == (2, 2, (), 64.0)
    assert [(one.took_s, one.finished) for one in result.tasks] == [(64.0, False), (32.0, False)]


def test_a_client_whose_answer_has_begun_waits_for_its_end() -> None:
    """The first token comes at 5 s, the last at 24 s; a second call is in the queue until then and is given up."""
    slow = replace(
        ONE, fleet=fleet(max_seqs=1), load=ClosedLoop(live=2), client_timeout_s=10.0, shuffle=False
    )
    result = run([chain("a", turn(0, 10, output=20)), chain("b", turn(0, 10, first=100))], slow)
    assert [(one.id, one.tries, one.finished_s) for one in result.turns] == [
        ("a/a/0", 1, 24.0),
        ("b/b/0", 3, 29.0),
    ]


def test_what_a_program_that_was_given_up_still_planned_does_not_arrive() -> None:
    """`y` would go on after 100 s; `x` is given up before that, and the program with it."""
    policy = Holds()
    policy.placing = True
    children = [
        session("x", [turn(0, 3, first=100, after=[TurnId("root", 0)])], parent="root"),
        session(
            "y",
            [turn(0, 3, first=200, after=[TurnId("root", 0)]), turn(1, 4, first=200, gap_s=100.0)],
            parent="root",
        ),
    ]
    one = program("a", session("root", [turn(0, 10)]), *children)
    result = run(
        [one, chain("b", turn(0, 2, output=400))], replace(ONE, client_timeout_s=10.0, shuffle=False), policy
    )
    assert result.given_up == 1
    assert [name for name, _ in policy.tries if name.startswith("a/y")] == ["a/y/0"]


def test_nothing_changes_where_no_client_is_that_impatient() -> None:
    programs = [chain(f"p{i}", turn(0, 10, output=20), turn(1, 14, gap_s=2.0)) for i in range(4)]
    setup = Setup(fleet=fleet(2), load=ClosedLoop(live=3))
    patient = run(programs, replace(setup, client_timeout_s=600.0), Routed(RoundRobin()))
    assert patient == run(programs, setup, Routed(RoundRobin()))
