"""Several routers, old gauges, first tokens. A pass takes 1 s, a prompt token 0.1 s."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.errors import Bug
from agentic_serving.simulation import (
    ClosedLoop,
    Ended,
    Fleet,
    Gaps,
    OpenLoop,
    Policy,
    PolicyBase,
    ReplicaView,
    Seat,
    Setup,
    TurnView,
    Workload,
    simulate,
)
from agentic_serving.simulation.baselines import BASELINES, Gate, LeastLoad, Routed
from agentic_serving.simulation.engines import Engines
from agentic_serving.simulation.gauges import Gauges
from agentic_serving.simulation.grid import run_grid
from agentic_serving.simulation.timeline import Timeline
from tests.unit.simulation.builders import chain, fleet, turn

PROGRAMS = [chain(f"p{i}", turn(0, 10, output=5), turn(1, 14, gap_s=2.0)) for i in range(4)]


class Watching(PolicyBase):
    """Least load; remembers what it was shown."""

    def __init__(self) -> None:
        self.programs: set[str] = set()
        self.loads: list[
            tuple[float, tuple[int, ...], tuple[int, ...]]
        ] = []  # (when, own turns, engines' running)
        self.ended: list[str] = []

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        self.programs.add(turn.program)
        running = tuple(one.stats.running + one.stats.waiting for one in replicas)
        self.loads.append((now_s, tuple(one.turns for one in replicas), running))
        return min(replicas, key=lambda one: (one.turns, one.index)).index

    def on_finish(self, ended: Ended) -> None:
        self.ended.append(ended.turn.program)


def test_programs_go_to_routers_in_turn_and_each_sees_its_own_turns_beside_everybody_s_gauges() -> None:
    setup = Setup(fleet=fleet(2), load=ClosedLoop(live=4), shuffle=False, routers=2)
    made: dict[int, Watching] = {}

    def make(seat: Seat) -> Watching:
        made[seat.router] = Watching()
        return made[seat.router]

    result = simulate(Workload(PROGRAMS, setup.fleet, Gaps()), setup, make)
    assert {number: one.programs for number, one in made.items()} == {0: {"p0", "p2"}, 1: {"p1", "p3"}}
    assert set(made[1].ended) == {"p1", "p3"}
    assert made[1].loads[0] == (0.0, (0, 0), (1, 1))  # two turns of the other router, one on each replica
    assert len(result.turns) == 8


def test_several_routers_need_a_maker_of_policies() -> None:
    setup = Setup(fleet=fleet(2), load=ClosedLoop(live=4), routers=2)
    with pytest.raises(Bug, match="pass what makes one"):
        simulate(Workload(PROGRAMS, setup.fleet, Gaps()), setup, Watching())


def test_one_router_s_policy_may_be_made_too() -> None:
    setup = Setup(fleet=fleet(2), load=ClosedLoop(live=4), seed=2)
    workload = Workload(PROGRAMS, setup.fleet, Gaps())
    make = BASELINES["scorers"]
    assert simulate(workload, setup, lambda seat: make(seat.fleet, 2)) == simulate(
        workload, setup, make(setup.fleet, 2)
    )


def test_gauges_are_as_old_as_the_last_scrape() -> None:
    """`a` runs for 100 s, the second one until 8.9 s; who comes before the scrape at 10 s sees an idle replica."""
    programs = [
        chain("a", turn(0, 10, output=96), start_s=0.5),
        *(chain(f"b{at}", turn(0, 1), start_s=at) for at in (7.0, 9.75, 10.25)),
    ]
    policy = Watching()
    setup = Setup(fleet=fleet(), load=OpenLoop(), scrape_s=10.0)
    simulate(Workload(programs, setup.fleet, Gaps()), setup, policy)
    assert [(at_s, engine) for at_s, _, engine in policy.loads] == [
        (0.5, (0,)), (7.0, (0,)), (9.75, (0,)), (10.25, (2,)),
    ]  # fmt: skip
    assert [own for _, own, _ in policy.loads] == [(0,), (1,), (1,), (2,)]  # its own turns it knows at once


def test_a_gate_on_gauges_asks_again_when_they_are_renewed() -> None:
    """At the scrape at 100 s `b` waits; all is done at 119 s, but only the next scrape tells that `c` may go."""
    starts_s = {"a": 90.0, "b": 91.0, "c": 110.0}
    programs = [
        chain(name, turn(0, 10, output=20 if name == "a" else 1), start_s=at_s)
        for name, at_s in starts_s.items()
    ]
    setup = Setup(fleet=fleet(max_seqs=1), load=OpenLoop(), scrape_s=100.0)
    gated = Routed(LeastLoad(), gate=Gate(engine_queue=1))
    result = simulate(Workload(programs, setup.fleet, Gaps()), setup, gated)
    assert [(one.id, one.placed_s) for one in result.turns] == [
        ("a/a/0", 90.0), ("b/b/0", 91.0), ("c/c/0", 200.0),
    ]  # fmt: skip


@pytest.mark.parametrize("scrape_s", [0.05, 0.1, 1 / 3, 5.0])
@pytest.mark.parametrize("name", ["scorers", "las-short"])
def test_old_gauges_cost_no_answer(name: str, scrape_s: float) -> None:
    setup = Setup(fleet=fleet(2, n_blocks=40, max_seqs=2), load=ClosedLoop(live=4), scrape_s=scrape_s)
    workload = Workload(PROGRAMS, setup.fleet, Gaps())
    result = simulate(workload, setup, BASELINES[name](setup.fleet, 0))
    assert len(result.turns) == 8


class Hears(Watching):
    """Remembers first tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[tuple[str, int, float]] = []

    def on_first_token(self, turn_id: str, replica: int, now_s: float) -> None:
        self.first.append((turn_id, replica, now_s))


def test_a_policy_that_listens_hears_every_first_token_once_and_nothing_else_changes() -> None:
    setup = Setup(fleet=fleet(2), load=ClosedLoop(live=4))
    workload = Workload(PROGRAMS, setup.fleet, Gaps())
    hears = Hears()
    result = simulate(workload, setup, hears)
    heard = sorted(hears.first)
    assert heard == sorted((one.id, one.replica, one.first_token_s) for one in result.turns)
    assert result == simulate(workload, setup, Watching())


class Counts:
    """A maker whose policies share the number of turns that they placed."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, _fleet: Fleet, _seed: int) -> Policy:
        raise AssertionError("several routers are to be made together")

    def linked(self, _setup: Setup, seed: int) -> Callable[[Seat], Policy]:
        def make(seat: Seat) -> Policy:
            self.made.append(f"router {seat.router}, seed {seed}")
            return Watching()

        return make


def test_a_grid_makes_a_policy_for_every_router_and_lets_those_be_linked_that_can() -> None:
    setup = Setup(fleet=fleet(2), load=ClosedLoop(live=4), routers=2)
    counts = Counts()
    grid = run_grid(
        Workload(PROGRAMS, setup.fleet, Gaps()),
        {"two": setup},
        {"plain": BASELINES["scorers"], "linked": counts},
        [5],
    )
    assert counts.made == ["router 0, seed 5", "router 1, seed 5"]
    assert [cell.summary.turns for cell in grid.cells] == [8, 8]


@given(scrape_s=st.floats(1e-3, 1e3), jumps=st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_scrapes_go_on_however_times_are_rounded(scrape_s: float, jumps: list[int]) -> None:
    """An event at the very time of the next scrape must bring it about, else it would be awaited for ever."""
    timeline = Timeline()
    engines = Engines(fleet().replica, 1, timeline, lambda _index, _outcome: None)
    gauges = Gauges(engines, fleet().limits, timeline, scrape_s)
    for jump in jumps:
        at_s = gauges.next_s + jump * scrape_s
        gauges.pass_time(at_s)
        assert at_s < gauges.next_s <= at_s + scrape_s * (1 + 1e-9)
