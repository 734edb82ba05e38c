"""Generated workloads: published moments, what is shared and what is not, and that a fleet can run them."""

from itertools import pairwise
from statistics import fmean

import pytest

from agentic_serving.capacity.runs import blocks, common_blocks
from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation import ClosedLoop, Fleet, Gaps, Setup, Workload, simulate
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.workload import Program, Session
from agentic_serving.workload.generate import KINDS, generate

#: Smaller than published where only the shape counts.
SMALL: dict[str, dict[str, object]] = {
    "long-horizon": {"turns": (6, 2), "tokens": (30_000, 10_000)},
    "fan-out": {"children": (3, 4), "forks": 2, "child_turns": (2, 1)},
    "rollouts": {"samples": 24, "answer_tokens": (100, 100)},
}


def test_every_kind_is_tested() -> None:
    assert set(SMALL) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_programs_and_another_seed_others(kind: str) -> None:
    options = SMALL[kind]
    assert generate(kind, 3, 1, **options) == generate(kind, 3, 1, **options)
    assert generate(kind, 3, 1, **options) != generate(kind, 3, 2, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_size", [16, 64, 512])
def test_runs_cover_the_full_blocks_of_every_prompt(kind: str, block_size: int) -> None:
    for program in generate(kind, 3, 1, block_size=block_size, **SMALL[kind]):
        for _, turn in program.turns():
            assert turn.block_size == block_size
            assert blocks(turn.runs) == turn.prompt_tokens // block_size
            assert turn.output_tokens >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_fleet_with_scorers_finishes_every_turn(kind: str) -> None:
    programs = generate(kind, 6, 1, **SMALL[kind])
    fleet = Fleet(
        n_replicas=2,
        limits=Limits(n_blocks=4_000, block_size=64, max_seqs=16),
        profile=find_profile("sketch"),
    )
    setup = Setup(fleet=fleet, load=ClosedLoop(live=3), gaps=Gaps(), seed=1)
    result = simulate(Workload(programs, fleet, Gaps()), setup, BASELINES["scorers"](fleet, 1))
    assert len(result.turns) == sum(1 for program in programs for _ in program.turns())
    assert all(run.finished for run in result.runs)


def test_long_horizon_programs_have_the_moments_of_agentservesim() -> None:
    programs = generate("long-horizon", 1_500, 1)
    turns = [turn for program in programs for _, turn in program.turns()]
    assert len(turns) / len(programs) == pytest.approx(41.9, rel=0.03)
    assert sum(t.prompt_tokens for t in turns) / len(programs) == pytest.approx(356_031, rel=0.05)
    assert fmean(t.gap_s for t in turns if t.index) == pytest.approx(1.161, rel=0.05)
    assert sorted(_repeated(program) for program in programs)[750] == pytest.approx(0.95, abs=0.015)


def test_siblings_share_tools_and_system_and_nothing_with_their_parent() -> None:
    for program in generate("fan-out", 20, 1):
        root, *children = program.sessions
        prompts = [child.turns[0].runs for child in children]
        assert {common_blocks(a, b) * 64 for a, b in pairwise(prompts)} == {11_250 // 64 * 64}
        longest = root.turns[-1].runs
        assert not any(common_blocks(longest, prompt) for prompt in prompts)


def test_a_fork_starts_8_to_32_children_at_once_and_its_parent_waits_for_all() -> None:
    sizes = []
    for program in generate("fan-out", 60, 1):
        root, *children = program.sessions
        for before, joining in pairwise(root.turns):
            forked = [c for c in children if c.turns[0].after[0].turn == before.index]
            assert {one.session for one in joining.after} == {c.id for c in forked}
            reports = sum(c.turns[-1].output_tokens for c in forked)
            assert joining.prompt_tokens == before.prompt_tokens + before.output_tokens + reports
            sizes.append(len(forked))
    assert (min(sizes), max(sizes)) == (8, 32)
    assert fmean(sizes) == pytest.approx(20, rel=0.1)


def test_rollouts_ask_one_prompt_512_times_at_once() -> None:
    (program,) = generate("rollouts", 1, 1)
    first = program.sessions[0].turns[0]
    assert len(program.sessions) == 512
    assert {(t.runs, t.prompt_tokens, t.after) for _, t in program.turns()} == {
        (first.runs, first.prompt_tokens, ())
    }


@pytest.mark.parametrize(
    ("kind", "n", "options", "words"),
    [
        ("swarm", 1, {}, "is not one of long-horizon"),
        ("fan-out", 0, {}, "at least one program"),
        ("fan-out", 1, {"colour": 3}, "is no option of fan-out; there are answer_tokens"),
        ("long-horizon", 1, {"turns": (0, 3)}, "must be a positive number"),
        ("long-horizon", 1, {"turns": (3, -1)}, "must not hold a negative number"),
        ("long-horizon", 1, {"block_size": "64"}, "must be a positive number"),
    ],
)
def test_what_cannot_be_generated_is_refused(
    kind: str, n: int, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        generate(kind, n, 1, **options)


def _repeated(program: Program) -> float:
    """Prompt tokens that an earlier turn of the session had or answered, of all."""
    session: Session = program.sessions[0]
    known = sum(a.prompt_tokens for a in session.turns[:-1])
    return known / sum(t.prompt_tokens for t in session.turns)
