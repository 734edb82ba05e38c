"""Generated workloads: published moments, what is shared and what is not, and that a fleet can run them."""

from dataclasses import replace
from itertools import pairwise
from statistics import fmean, median

import pytest

from agentic_serving.capacity.runs import blocks, common_blocks
from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation import ClosedLoop, Fleet, Gaps, Setup, Stacks, Workload, simulate
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.workload import Program, Session
from agentic_serving.workload.generate import KINDS, freed_tokens, generate

#: Smaller than published where only the shape counts.
SMALL: dict[str, dict[str, object]] = {
    "long-horizon": {"turns": (6, 2), "tokens": (30_000, 10_000)},
    "fan-out": {"children": (3, 4), "forks": 2, "child_turns": (2, 1)},
    "tree-search": {"calls": (40, 10)},
    "rollouts": {"samples": 24, "answer_tokens": (100, 100)},
    "pipeline": {"calls": (9, 3), "prompt_tokens": (12_000, 4_000)},
    "reasoning": {"questions": (3, 1), "thought_tokens": (1_000, 1_000)},
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


def test_a_fork_of_a_context_goes_on_from_what_its_parent_was_asked_last() -> None:
    (program,) = generate("fan-out", 1, 1, from_context=True, parent_tokens=30_000)
    root, *children = program.sessions
    for child in children:
        asked = root.turns[child.turns[0].after[0].turn]
        assert common_blocks(asked.runs, child.turns[0].runs) * 64 >= asked.prompt_tokens // 64 * 64


def test_rollouts_ask_one_prompt_512_times_at_once() -> None:
    (program,) = generate("rollouts", 1, 1)
    first = program.sessions[0].turns[0]
    assert len(program.sessions) == 512
    assert {(t.runs, t.prompt_tokens, t.after) for _, t in program.turns()} == {
        (first.runs, first.prompt_tokens, ())
    }


def test_tree_search_has_the_moments_of_lats() -> None:
    programs = generate("tree-search", 500, 1)
    turns = [turn for program in programs for _, turn in program.turns()]
    assert len(turns) / len(programs) == pytest.approx(159.7, rel=0.06)
    assert fmean(t.prompt_tokens for t in turns) == pytest.approx(467, rel=0.05)
    assert fmean(t.output_tokens for t in turns) == pytest.approx(73, rel=0.05)


def test_candidates_of_one_node_share_its_path_and_a_step_waits_for_the_step_before() -> None:
    (program,) = generate("tree-search", 1, 1, block_size=1)
    root, *candidates = program.sessions
    steps = [candidates[i : i + 5] for i in range(0, len(candidates), 5)]
    for step in steps:
        assert len({(c.turns[0].runs, c.turns[0].after) for c in step}) == 1
        value = step[0].turns[1]
        assert common_blocks(value.runs, step[0].turns[0].runs) == step[0].turns[0].prompt_tokens
        assert common_blocks(value.runs, step[1].turns[1].runs) == step[0].turns[0].prompt_tokens
    for before, step in pairwise(steps):
        assert {one.session for one in step[0].turns[0].after} == {c.id for c in before}
    assert {one.session for one in root.turns[1].after} == {c.id for c in steps[-1]}


def test_pipelines_have_the_moments_of_agent_traces() -> None:
    programs = generate("pipeline", 800, 1)
    turns = [turn for program in programs for _, turn in program.turns()]
    assert len(turns) / len(programs) == pytest.approx(22, rel=0.04)
    assert fmean(t.prompt_tokens for t in turns) == pytest.approx(49_100, rel=0.05)
    assert fmean(t.output_tokens for t in turns) == pytest.approx(659, rel=0.03)
    assert median(t.gap_s for t in turns if t.gap_s) == pytest.approx(1.0, rel=0.05)


def test_agents_of_a_pipeline_share_their_system_prompt_over_programs_and_no_block_with_each_other() -> None:
    one, other = generate("pipeline", 2, 1)
    assert one.scope == other.scope
    for a in one.sessions:
        for b in other.sessions:
            common = common_blocks(a.turns[-1].runs, b.turns[-1].runs)
            assert common == (6_000 // 64 if a.agent == b.agent else 0)
    assert not any(common_blocks(one.sessions[0].turns[-1].runs, s.turns[0].runs) for s in one.sessions[1:])


def test_reviews_follow_code_and_the_planner_ends_the_program() -> None:
    loops = 0
    for program in generate("pipeline", 100, 1):
        planner, coder, reviewer = program.sessions
        assert [s.agent for s in program.sessions] == ["planner", "coder", "reviewer"]
        waits = {s.id: [t.after[0].session for t in s.turns if t.after] for s in program.sessions}
        rounds = len(waits[reviewer.id])
        assert waits[reviewer.id] == [coder.id] * rounds
        assert waits[coder.id] == [planner.id] + [reviewer.id] * (rounds - 1)
        assert planner.turns[-1].after[0].session == reviewer.id
        loops += rounds > 1
    assert 25 <= loops <= 55  # of 100, at 0.4


def test_a_pipeline_runs_on_two_stacks() -> None:
    programs = generate("pipeline", 6, 1, **SMALL["pipeline"])
    limits = Limits(n_blocks=4_000, block_size=64, max_seqs=16)
    fleet = Fleet(n_replicas=2, limits=limits, profile=find_profile("sketch"))
    stacks = Stacks({"fast": replace(fleet, profile=find_profile("sketch-fast"))}, {"coder": "fast"})
    setup = Setup(fleet=fleet, stacks=stacks, load=ClosedLoop(live=3), gaps=Gaps(), seed=1)
    workload = Workload(programs, fleet, Gaps(), stacks)
    result = simulate(workload, setup, lambda seat: BASELINES["scorers"](seat.fleet, 1))
    assert all(run.finished for run in result.runs)
    assert {(turn.agent, turn.stack) for turn in result.turns} == {
        ("planner", ""),
        ("coder", "fast"),
        ("reviewer", ""),
    }


def test_reasoning_has_the_moments_of_its_sources() -> None:
    programs = generate("reasoning", 1_500, 1, most_thought_tokens=10**9)
    turns = [turn for program in programs for _, turn in program.turns()]
    questions = [t for t in turns if t.gap_kind == "human"]
    assert len(questions) / len(programs) == pytest.approx(6.66, rel=0.06)
    thought = sum(t.output_tokens for t in turns) - 277 * len(turns)
    assert thought / len(questions) == pytest.approx(12_000, rel=0.06)
    pauses = [t.gap_s for t in questions if t.index]
    assert median(pauses) == pytest.approx(121.5, rel=0.07)
    assert sum(s > 300 for s in pauses) / len(pauses) == pytest.approx(0.257, abs=0.03)
    assert len(turns) / len(questions) == pytest.approx(2.0, rel=0.05)


def test_thoughts_stay_while_tools_are_called_and_are_gone_from_the_next_question() -> None:
    (program,) = generate("reasoning", 1, 1, questions=(12, 0))
    session = program.sessions[0]
    freed = 0
    for before, turn in pairwise(session.turns):
        if turn.gap_kind == "tool":
            assert turn.base == before.index
            assert turn.prompt_tokens > before.prompt_tokens + before.output_tokens
            continue
        asked = [t for t in session.turns[: turn.index] if t.gap_kind == "human"][-1]
        assert common_blocks(turn.runs, before.runs) == blocks(asked.runs) - 1  # all behind is gone
        freed += before.prompt_tokens + before.output_tokens - (asked.prompt_tokens - 64)
    assert freed_tokens([program]) == freed > 12 * 2_000


def test_the_next_question_finds_nothing_of_the_thoughts_in_the_cache() -> None:
    programs = generate("reasoning", 1, 1, questions=(5, 0), tools=0)
    fleet = Fleet(
        n_replicas=1, limits=Limits(n_blocks=100_000, block_size=64), profile=find_profile("sketch")
    )
    setup = Setup(fleet=fleet, load=ClosedLoop(live=1), gaps=Gaps(), seed=1)
    result = simulate(Workload(programs, fleet, Gaps()), setup, BASELINES["scorers"](fleet, 1))
    for before, turn in pairwise(sorted(result.turns, key=lambda t: t.index)):
        assert turn.cached_tokens == before.prompt_tokens - 64


def test_dropping_frees_nothing_where_prompts_only_grow() -> None:
    assert freed_tokens(generate("long-horizon", 20, 1)) == 0


@pytest.mark.parametrize(
    ("kind", "n", "options", "words"),
    [
        ("swarm", 1, {}, "is not one of long-horizon"),
        ("fan-out", 0, {}, "at least one program"),
        ("fan-out", 1, {"colour": 3}, "is no option of fan-out; there are answer_tokens"),
        ("long-horizon", 1, {"turns": (0, 3)}, "must be a positive number"),
        ("long-horizon", 1, {"turns": (3, -1)}, "must not hold a negative number"),
        ("reasoning", 1, {"tools": -1}, "must be a positive number"),
        ("long-horizon", 1, {"block_size": "64"}, "must be a positive number"),
    ],
)
def test_what_cannot_be_generated_is_refused(
    kind: str, n: int, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        generate(kind, n, 1, **options)


def _repeated(program: Program) -> float:
    """Prompt tokens that an earlier turn of the session had, of all."""
    session: Session = program.sessions[0]
    known = sum(turn.prompt_tokens for turn in session.turns[:-1])
    return known / sum(t.prompt_tokens for t in session.turns)
