"""Our scheduler in the simulator, on recorded programs and a fleet that is too small for them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.program import events as ev
from agentic_serving.program.policy import Policy
from agentic_serving.simulation import ClosedLoop, Failure, Fleet, Gaps, Result, Setup, Workload, simulate
from agentic_serving.simulation.baselines import LeastLoad, Routed
from agentic_serving.simulation.hints import Hints
from agentic_serving.simulation.hosted import OURS, Hosted, Ours
from agentic_serving.workload import read

_TRACE = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"
_BLOCK = 64  # the trace's
#: The scheduler is asked again a second after it was asked last.
_TICK_S = 1.0


@cache
def small() -> tuple[Workload, Setup]:
    """Two replicas of 400,000 tokens each for all of the trace's programs at once."""
    made = Fleet(
        n_replicas=2,
        limits=Limits(n_blocks=400_000 // _BLOCK + 1, block_size=_BLOCK),
        profile=find_profile("sketch"),
    )
    programs = read(_TRACE)
    return Workload(programs, made, Gaps()), Setup(fleet=made, load=ClosedLoop(live=len(programs)))


def run(policy: Hosted | None = None, **changes: object) -> Result:
    workload, setup = small()
    return simulate(workload, replace(setup, **changes), policy or Hosted())  # type: ignore[arg-type] # fields by name


@cache
def reference() -> frozenset[str]:
    """All turns there are: those that are served where nothing is held."""
    workload, setup = small()
    result = simulate(workload, setup, Routed(LeastLoad()))
    return frozenset(one.id for one in result.turns)


def longest_hold_s(result: Result) -> float:
    return max(one.placed_s - one.arrived_s for one in result.turns)


@pytest.mark.parametrize("max_hold_s", [20.0, 300.0])
def test_all_turns_are_served_and_none_is_held_too_long(max_hold_s: float) -> None:
    told: list[ev.Instruction] = []
    result = run(Hosted(max_hold_s=max_hold_s, on_instruction=told.append))
    assert {one.id for one in result.turns} == reference()
    assert longest_hold_s(result) <= max_hold_s + _TICK_S
    assert any(isinstance(one, ev.Hold) for one in told)  # else this shows nothing
    assert len({one.turn_id for one in told if isinstance(one, ev.Admit)}) == len(reference())


def test_it_is_told_of_all_that_it_needs() -> None:
    """After all programs are over the scheduler knows of none, and its count of turns is right."""
    policy = Hosted()
    run(policy)
    policy.scheduler.check()
    left = (len(policy.scheduler.absence), len(policy.scheduler.service), len(policy.scheduler.waiting))
    assert left == (0, 0, 0)
    assert not policy._told
    assert not policy._admitted
    assert not policy._prompts


@pytest.mark.parametrize(
    "rules",
    [
        Policy(hold=False),
        Policy(stay=False),
        Policy(least_attained_first=False),
        Policy(stagger=False),
        Policy(spread=False),
        Policy(hints=False),
        Policy(recompute_budget=0.0),
        Policy(lookahead=1),
    ],
    ids=["hold", "stay", "order", "stagger", "spread", "hints", "budget", "lookahead"],
)
def test_all_turns_are_served_with_any_rule_off(rules: Policy) -> None:
    result = run(Hosted(rules))
    assert {one.id for one in result.turns} == reference()
    assert longest_hold_s(result) <= (_TICK_S if not rules.hold else 300.0 + _TICK_S)


_FAILURES = {
    "one of two": (Failure(replica=1, at_s=100.0, down_s=60.0),),
    "in turn": (Failure(replica=0, at_s=50.0, down_s=30.0), Failure(replica=1, at_s=90.0, down_s=30.0)),
    "both": (Failure(replica=0, at_s=100.0, down_s=40.0), Failure(replica=1, at_s=110.0, down_s=40.0)),
    "both at the start": (Failure(replica=0, at_s=0.0, down_s=9.0), Failure(replica=1, at_s=0.0, down_s=7.0)),
    "for an instant": (Failure(replica=0, at_s=100.0, down_s=0.001),),
}


@pytest.mark.parametrize("failures", _FAILURES.values(), ids=_FAILURES)
def test_all_turns_are_served_though_replicas_die(failures: Sequence[Failure]) -> None:
    policy = Hosted()
    result = run(policy, failures=tuple(failures))
    assert {one.id.split("~")[0] for one in result.turns} == reference()
    policy.scheduler.check()


@pytest.mark.parametrize("routers", [1, 2, 3])
@pytest.mark.parametrize(
    "hints",
    [None, Hints(), Hints(share_right=0.0, adversarial=True)],
    ids=["none", "right", "inverted"],
)
def test_several_routers_and_any_hints(routers: int, hints: Hints | None) -> None:
    """Grids make schedulers of several routers that share attained service, as in a cluster."""
    workload, setup = small()
    setup = replace(setup, routers=routers, hints=hints)
    result = simulate(workload, setup, Ours().linked(setup, seed=1))
    assert {one.id for one in result.turns} == reference()
    assert longest_hold_s(result) <= 300.0 + _TICK_S


def test_the_same_seed_gives_the_same_result() -> None:
    workload, setup = small()
    results = [simulate(workload, replace(setup, seed=7), OURS["agentic"](setup.fleet, 7)) for _ in range(2)]
    assert results[0] == results[1]
