"""simulation.bounds: by hand; and no policy beats them, on made-up and on recorded programs."""

from pathlib import Path

import pytest

from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation import ClosedLoop, Fleet, Gaps, Setup, Workload, simulate, summary
from agentic_serving.simulation.bounds import fleet_bound
from agentic_serving.simulation.policies import POLICIES
from agentic_serving.workload import Program, read
from tests.unit.simulation.builders import chain, fleet, program, session, turn
from tests.unit.simulation.generated import AGENT_SERVE_SIM, BLOCK, generate

_TRACE = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"
#: One that holds nothing, one that holds in windows, one behind a gate, one that holds by tokens, and ours.
_POLICIES = ("affinity-filter", "burst-prefix", "autellix-short", "thunder-ledger", "agentic")


def small(n_replicas: int, block: int, tokens: int) -> Fleet:
    limits = Limits(n_blocks=tokens // block + 1, block_size=block)
    return Fleet(n_replicas=n_replicas, limits=limits, profile=find_profile("sketch"))


def test_by_hand() -> None:
    """Prompts of 40 and 80 tokens at 0.1 s each; a pass takes 1 s; three tokens of answer."""
    one = fleet(max_seqs=1)
    programs = [chain("a", turn(0, 10, output=3)), chain("b", turn(0, 20, output=3))]
    bound = fleet_bound(Workload(programs, one, Gaps()), one)
    assert bound.path_s == pytest.approx(8 + 3)
    assert bound.work_s == pytest.approx(4 + 8 + 2 * 2)
    assert bound.space_s == pytest.approx((40 * 2 + 80 * 2) / one.tokens)
    assert bound.mean_path_s == pytest.approx((4 + 3 + 8 + 3) / 2)
    assert bound.mean_work_s == pytest.approx((6 + 16) / 2)  # the shorter first


def test_what_programs_share_is_prefilled_once() -> None:
    one = fleet()
    programs = [program(name, session(name, [turn(0, 10)]), scope="both") for name in ("a", "b")]
    assert fleet_bound(Workload(programs, one, Gaps()), one).work_s == pytest.approx(4.0)


def generated() -> tuple[list[Program], Fleet]:
    return list(generate(8, AGENT_SERVE_SIM, seed=3)), small(2, BLOCK, 120_000)


def recorded() -> tuple[list[Program], Fleet]:
    return sorted(read(_TRACE), key=_n_turns)[:12], small(2, 64, 400_000)


def crowded() -> tuple[list[Program], Fleet]:
    """No gaps, and far more at once than two replicas take: the work decides."""
    made = [chain(f"p{i}", turn(0, 5 + i, output=4), turn(1, 9 + i, output=4)) for i in range(24)]
    return made, fleet(2, n_blocks=100, max_seqs=4)


def _n_turns(one: Program) -> int:
    return sum(1 for _ in one.turns())


@pytest.mark.parametrize("made", [generated, recorded, crowded], ids=lambda made: made.__name__)
def test_no_policy_beats_the_bound(made: object) -> None:
    assert callable(made)
    programs, fleet_ = made()
    workload = Workload(programs, fleet_, Gaps())
    bound = fleet_bound(workload, fleet_)
    setup = Setup(fleet=fleet_, load=ClosedLoop(live=len(programs)))
    for name in _POLICIES:
        result = simulate(workload, setup, POLICIES[name](fleet_, 0))
        assert len(result.runs) == len(programs), name
        assert max(run.arrived_s for run in result.runs) == 0.0
        assert max(turn_.finished_s for turn_ in result.turns) >= bound.makespan_s - 1e-6, name
        assert summary(result).run_s.mean >= bound.mean_s - 1e-6, name
