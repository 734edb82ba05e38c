"""benchmarks.gain: the figures by hand, and what scaling keeps of a trace."""

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.gain.arms import ARMS, link_of
from benchmarks.gain.figures import Open, Outcome, gain, outcome
from benchmarks.gain.workload import Scaling, scaled

from agentic_serving.replay.answers import Usage
from agentic_serving.replay.records import TurnRecord
from agentic_serving.workload import Program, Session, Turn, read, totals

TRACE = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"


def turn(index: int, *, kind: str = "tool", n_blocks: int = 2) -> Turn:
    return Turn(
        index=index,
        runs=((0, n_blocks),),
        block_size=32,
        prompt_tokens=32 * n_blocks + 5,
        output_tokens=1,
        gap_s=0.0,
        gap_kind="human" if kind == "human" else "tool",
        stop="tool",
        stream=True,
        start_s=0.0,
        api_s=None,
    )


#: Two tasks: turns 0 and 1, then turn 2.
TURNS = (turn(0, kind="human"), turn(1, n_blocks=3), turn(2, kind="human", n_blocks=4))
ROOT = Session(id="root", parent=None, agent="main", tool_tokens=0, system_tokens=0, turns=TURNS)
CHILD = replace(ROOT, id="child", parent="root", turns=TURNS[:1])
PROGRAM = Program(
    id="p", source="claude-code", scope="p", start_s=0.0, open_loop=False, sessions=(ROOT, CHILD)
)


def record(
    index: int, start: float, took: float, *, cached: int = 0, session: str = "root", error: str = ""
) -> TurnRecord:
    made = TURNS[index]
    return TurnRecord(
        program="p",
        lap=0,
        session=session,
        agent="main",
        turn=index,
        task=0 if index < 2 else 1,
        kind="turn",
        client="opencode",
        api="chat",
        gap_kind=made.gap_kind,
        ends_task=index in (1, 2),
        ends_session=index == 2,
        started_s=start,
        first_token_s=None if error else took / 2,
        completion_s=took,
        expected_tokens=made.prompt_tokens,
        usage=None if error else Usage(prompt=made.prompt_tokens, output=1, cached=cached),
        error=error,
        retried=("HTTP 503",) if error else (),
    )


def test_a_task_runs_from_its_first_turn_to_the_end_of_its_last() -> None:
    found = outcome([PROGRAM], [record(0, 2, 1), record(1, 4, 2), record(2, 7, 1)], [], 10.0)
    assert (found.tasks, found.task_mean_s, found.task_p50_s, found.unfinished) == (2, 2.5, 1.0, 0)


def test_what_does_not_end_counts_with_its_age() -> None:
    between = outcome([PROGRAM], [record(0, 2, 1)], [], 10.0)  # a tool runs, or turn 1 was dropped
    running = outcome([PROGRAM], [], [Open("p", "root", 0, 4.0)], 10.0)
    assert (between.task_mean_s, between.unfinished) == (8.0, 1)
    assert (running.task_mean_s, running.unfinished) == (6.0, 1)


def test_a_later_turn_under_way_is_no_further_task() -> None:
    found = outcome([PROGRAM], [record(0, 2, 1)], [Open("p", "root", 1, 4.0)], 10.0)
    assert (found.tasks, found.task_mean_s) == (1, 8.0)


def test_what_began_in_the_first_fifth_and_what_agents_do_is_not_counted() -> None:
    found = outcome(
        [PROGRAM], [record(0, 1.9, 1), record(1, 3, 1), record(0, 5, 1, session="child")], [], 10.0
    )
    assert found.tasks == 0


def test_recomputed_is_what_was_computed_before_and_not_cached() -> None:
    # Turn 1 repeats two blocks of turn 0 (64 tokens), 32 of them cached; turn 2 repeats three (96), all cached.
    found = outcome(
        [PROGRAM], [record(0, 2, 1), record(1, 4, 1, cached=32), record(2, 6, 1, cached=96)], [], 10.0
    )
    assert found.recompute_share == pytest.approx(32 / 160)


def test_every_failed_try_counts() -> None:
    assert outcome([PROGRAM], [record(0, 2, 1, error="HTTP 503")], [], 10.0).failed == 2


def test_the_gain_is_the_geometric_mean_over_common_seeds() -> None:
    def took(seconds: float) -> Outcome:
        return outcome([PROGRAM], [record(0, 2, 0), record(1, 2, seconds)], [], 10.0)

    found = gain("task_mean_s", {1: took(8), 2: took(2), 3: took(5)}, {1: took(2), 2: took(2)})
    assert found.n == 2
    assert found.mean == pytest.approx(2.0)


def test_scaling_keeps_what_repeats() -> None:
    programs = tuple(read(TRACE))
    small = scaled(programs, Scaling(tokens=16, gaps=1 / 16, most_tokens=30_000))
    kept = [one for one in programs if one.id in {two.id for two in small}]
    assert len(small) > 5
    before, after = totals(kept), totals(small)
    assert after.prompt_tokens == pytest.approx(before.prompt_tokens / 16, rel=0.01)
    # Repetition is lost only where it ends within a block, which stands for eight recorded ones.
    assert after.repeated_tokens == pytest.approx(before.repeated_tokens / 16, rel=0.05)


def test_the_scheduler_of_a_scaled_workload_has_its_defaults_at_that_scale() -> None:
    link = link_of("Enforce", "gie-1.5", Scaling(tokens=32, gaps=1 / 32))
    assert (link.policy.small_tokens, link.policy.prefill_tokens, link.max_hold_s) == (256, 512, 9.375)
    assert {link_of(arm, "gie-1.5", Scaling()).scheduler for arm in ARMS} == {"Off", "Observe", "Enforce"}
