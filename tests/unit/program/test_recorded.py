"""The graph against recorded sessions: what it calls reused is what the traces' block hashes say, turn by turn, sub-agents too.

Twice: block by block (exact), and through the bodies that a client would send, where a prefix counts in whole messages only.
Set AGENTIC_TRACES to a folder with the full traces to use all of them (75 s).
"""

import os
from array import array
from pathlib import Path

import pytest

from agentic_serving.capacity.runs import Runs, common_blocks, ids
from agentic_serving.program.blocks import Memo, Prompt, blocks_of
from agentic_serving.program.graph import SessionGraph
from agentic_serving.replay.bodies import BodyOptions, body
from agentic_serving.replay.conversation import SessionText
from agentic_serving.replay.text import Scale
from agentic_serving.workload import Program, Session, Turn, read

_SAMPLE = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"
_FULL = os.environ.get("AGENTIC_TRACES", "")
_SCALE = Scale(token_scale=1 / 16)  # four words of each 64 tokens: spells the block's id, and one more
_TURN = 8  # code of ("Turn", "") in a prompt's column of kinds


_FILES = sorted(Path(_FULL).glob("claude_code*.jsonl.gz")) if _FULL else [_SAMPLE]
_READ = {program.id: program for file in _FILES for program in read(file)}
every_program = pytest.mark.parametrize("program", _READ.values(), ids=_READ)


def _in_order(program: Program) -> list[tuple[Session, Turn]]:
    return sorted(program.turns(), key=lambda pair: (pair[1].start_s, pair[0].id, pair[1].index))


def _prompt(runs: Runs) -> Prompt:
    """A block a recorded one: its id stands for its whole prefix, as a chain does. One token each."""
    made = Prompt()
    made.chains = array("Q", [i + 1 for i in ids(runs)])
    made.contents = array("I", made.chains)
    made.sizes = array("I", [1]) * len(made.chains)
    made.kinds = bytearray([_TURN]) * len(made.chains)
    return made


@every_program
def test_reuse_is_what_the_hashes_of_all_sessions_say(program: Program) -> None:
    graph = SessionGraph(max_blocks=100_000)
    last: dict[str, Runs] = {}
    for session, turn in _in_order(program):
        delta = graph.observe(session.id, _prompt(turn.runs), turn.start_s, parent=session.parent)
        shared = max((common_blocks(runs, turn.runs) for runs in last.values()), default=0)
        assert (delta.reused, delta.new) == (shared, sum(n for _, n in turn.runs) - shared)
        last[session.id] = turn.runs
    graph.check()


@every_program
def test_merged_boundaries_hide_little_of_the_reuse(program: Program) -> None:
    """64 boundaries for 1000 to 2600 blocks: never more than there is, and of it nine tenths over the whole program."""
    graph, whole = SessionGraph(max_blocks=64), SessionGraph(max_blocks=100_000)
    found = exact = 0
    for session, turn in _in_order(program):
        some = graph.observe(session.id, _prompt(turn.runs), turn.start_s)
        all_of_it = whole.observe(session.id, _prompt(turn.runs), turn.start_s)
        assert some.reused <= all_of_it.reused
        found, exact = found + some.reused, exact + all_of_it.reused
        graph.check()
    assert found >= 0.9 * exact


@every_program
def test_bodies_reuse_what_the_hashes_say_up_to_a_message(program: Program) -> None:
    graph, memos = SessionGraph(), {s.id: Memo() for s in program.sessions}
    texts = {s.id: SessionText(program, s, _SCALE) for s in program.sessions}
    last: dict[str, Runs] = {}
    for session, turn in _in_order(program):
        made = body("messages", texts[session.id].turn(turn.index), BodyOptions(model="m", max_tokens=1))
        prompt = blocks_of(made, tokens_per_byte=1.0, memo=memos[session.id])  # bytes add up exactly
        delta = graph.observe(session.id, prompt, turn.start_s, parent=session.parent)
        shared = max((common_blocks(runs, turn.runs) for runs in last.values()), default=0)
        part = shared * turn.block_size / turn.prompt_tokens
        low, high = _around(prompt, delta.reused)
        assert low - 0.02 <= part <= high + 0.02
        last[session.id] = turn.runs


def _around(prompt: Prompt, reused: int) -> tuple[float, float]:
    """The part of the prompt that is reused at least, and at most, if the first block that is not reused is so in part."""
    total, at = sum(b.tokens for b in prompt), 0
    for tokens in (b.tokens for b in prompt):
        if at >= reused:
            return at / total, (at + tokens) / total
        at += tokens
    return at / total, 1.0
