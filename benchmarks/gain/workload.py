"""Recorded Claude Code sessions, made small enough for a CPU: tokens and gaps divided by one number, who shares what kept.

A block of the result stands for several recorded ones, and is as large as an engine's, so that what repeats in a prompt
repeats in the engine's cache. One number for tokens and time keeps the ratio of computing to waiting: an engine that
computes 15,000 of the scaled tokens a second is to scaled gaps what one of 15,000 is to real ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from agentic_serving.capacity.runs import Interner, ids
from agentic_serving.workload import Program, Session, Turn

__all__ = ["Scaling", "scaled"]

_RECORDED_BLOCK = 64  # tokens of a block in the traces


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """
    Attributes:
        tokens: recorded tokens per token.
        gaps: seconds per recorded second.
        block: tokens.
        most_gap_s: recorded seconds; longer gaps are cut.
        most_tokens: of a turn, prompt and answer; programs with longer ones are left out.
    """

    tokens: int = 32
    gaps: float = 1 / 32
    block: int = 32
    most_gap_s: float = 300.0
    most_tokens: int = 28_000


def scaled(programs: Sequence[Program], scaling: Scaling) -> tuple[Program, ...]:
    """Those that fit, in their order."""
    return tuple(_scaled(programs, scaling))


def _scaled(programs: Sequence[Program], scaling: Scaling) -> Iterator[Program]:
    for program in programs:
        names = Interner()
        sessions = tuple(_session(session, names, scaling) for session in program.sessions)
        longest = max(t.prompt_tokens + t.output_tokens for session in sessions for t in session.turns)
        if longest <= scaling.most_tokens:
            yield replace(program, sessions=sessions)


def _session(session: Session, names: Interner, scaling: Scaling) -> Session:
    return replace(
        session,
        tool_tokens=session.tool_tokens // scaling.tokens,
        system_tokens=session.system_tokens // scaling.tokens,
        turns=tuple(_turn(turn, names, scaling) for turn in session.turns),
    )


def _turn(turn: Turn, names: Interner, scaling: Scaling) -> Turn:
    """A recorded block's id says its whole prefix: the last one of a scaled block names that."""
    each = max(1, scaling.block * scaling.tokens // _RECORDED_BLOCK)
    prompt = max(1, turn.prompt_tokens // scaling.tokens)
    chain = list(ids(turn.runs))[each - 1 :: each]
    return replace(
        turn,
        runs=names.runs(chain[: prompt // scaling.block]),
        block_size=scaling.block,
        prompt_tokens=prompt,
        output_tokens=max(1, turn.output_tokens // scaling.tokens),
        gap_s=min(turn.gap_s, scaling.most_gap_s) * scaling.gaps,
    )
