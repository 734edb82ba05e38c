"""Our scheduler in the simulator on forks of a long context: what warm-ups do there, and that they are nobody's turns."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.program import events as ev
from agentic_serving.program.policy import Policy
from agentic_serving.simulation import ClosedLoop, Failure, Fleet, Gaps, Result, Setup, Workload, simulate
from agentic_serving.simulation.baselines import LeastLoad, Routed
from agentic_serving.simulation.hints import Hints
from agentic_serving.simulation.hosted import Hosted
from agentic_serving.workload.generate import generate

_BLOCK = 64


@cache
def forks() -> tuple[Workload, Setup]:
    """Three programs, one after the other, each forks 16 children of 40,000 tokens twice; three replicas."""
    made = Fleet(
        n_replicas=3,
        limits=Limits(n_blocks=512_000 // _BLOCK + 1, block_size=_BLOCK),
        profile=find_profile("Qwen/Qwen3-8B@nvidia-h100"),
    )
    programs = generate(
        "fan-out",
        3,
        1,
        from_context=True,
        parent_tokens=40_000,
        children=(16, 16),
        forks=2,
        child_turns=(2, 1),
    )
    return Workload(programs, made, Gaps()), Setup(fleet=made, load=ClosedLoop(live=1), hints=Hints())


def run(policy: Hosted, **changes: object) -> Result:
    workload, setup = forks()
    return simulate(workload, replace(setup, **changes), policy)  # type: ignore[arg-type] # fields by name


@cache
def reference() -> frozenset[str]:
    workload, setup = forks()
    return frozenset(one.id for one in simulate(workload, setup, Routed(LeastLoad())).turns)


def told(**policy: object) -> tuple[Result, list[ev.Instruction]]:
    """What came of it, and what the scheduler said."""
    said: list[ev.Instruction] = []
    hosted = Hosted(replace(Policy(), **policy), on_instruction=said.append)  # type: ignore[arg-type] # as above
    result = run(hosted)
    hosted.scheduler.check()
    assert not len(hosted.scheduler._flights)
    return result, said


def test_children_find_the_context_wherever_they_go() -> None:
    result, said = told()
    warms = [one for one in said if isinstance(one, ev.Warm)]
    assert {one.siblings for one in warms} == {16}
    firsts = [one for one in result.turns if one.agent == "subagent" and not one.index]
    assert {one.replica for one in firsts} == {0, 1, 2}
    assert sum(one.cached_tokens < 30_000 for one in firsts) <= 3
    assert frozenset(one.id for one in result.turns) == reference()  # warm-ups are not among them


def test_first_tokens_of_children_come_sooner_than_without() -> None:
    """On these figures by far: 0.3 s against 1.3 s."""
    means = {}
    for warm_up in (True, False):
        result, said = told(warm_up=warm_up)
        assert any(isinstance(one, ev.Warm) for one in said) == warm_up
        waits = [
            one.first_token_s - one.arrived_s
            for one in result.turns
            if one.agent == "subagent" and not one.index
        ]
        means[warm_up] = sum(waits) / len(waits)
    assert means[True] < 0.8 * means[False]


@pytest.mark.parametrize("at_s", [0.2, 1.0, 4.0], ids=["while it warms", "after", "children are there"])
@pytest.mark.parametrize("replica", [0, 1])
def test_a_replica_that_dies_with_a_warm_up_costs_no_turn(replica: int, at_s: float) -> None:
    said: Counter[str] = Counter()
    hosted = Hosted(on_instruction=lambda one: said.update([type(one).__name__]))
    result = run(hosted, failures=(Failure(replica=replica, at_s=at_s, down_s=20.0),))
    assert {one.id.split("~")[0] for one in result.turns} == reference()
    assert said["Warm"]
    hosted.scheduler.check()
