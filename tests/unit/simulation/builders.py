"""Small programs and fleets by hand."""

from collections.abc import Sequence

from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation import Fleet
from agentic_serving.workload import GapKind, Program, Session, Turn, TurnId

SIZE = 4  # tokens per block
#: 1 s a pass, 0.1 s a prompt token; decoding costs nothing else: easy to compute by hand.
PROFILE = StepProfile(name="hand", source="test", base_s=1.0, prefill_token_s=0.1)


def fleet(n_replicas: int = 1, *, n_blocks: int = 1_000, max_seqs: int = 8, batch: int = 8192) -> Fleet:
    limits = Limits(n_blocks=n_blocks, block_size=SIZE, max_seqs=max_seqs, max_batched_tokens=batch)
    return Fleet(n_replicas=n_replicas, limits=limits, profile=PROFILE)


def turn(
    index: int,
    n_blocks: int,
    *,
    first: int = 0,
    output: int = 1,
    gap_s: float = 0.0,
    kind: GapKind = "tool",
    after: Sequence[TurnId] = (),
) -> Turn:
    """A prompt of so many full blocks, ids from `first`; it extends the turn before."""
    return Turn(
        index=index,
        runs=((first, n_blocks),),
        block_size=SIZE,
        prompt_tokens=n_blocks * SIZE,
        output_tokens=output,
        gap_s=gap_s,
        gap_kind=kind if index or after else "human",
        stop="tool",
        stream=True,
        start_s=0.0,
        api_s=None,
        after=tuple(after),
        base=index - 1 if index else None,
    )


def session(name: str, turns: Sequence[Turn], *, parent: str | None = None) -> Session:
    return Session(id=name, parent=parent, agent="main", tool_tokens=0, system_tokens=0, turns=tuple(turns))


def program(name: str, *sessions: Session, scope: str | None = None, start_s: float = 0.0) -> Program:
    return Program(
        id=name,
        source="claude-code",
        scope=scope or name,
        start_s=start_s,
        open_loop=False,
        sessions=sessions,
    )


def chain(name: str, *turns: Turn, start_s: float = 0.0) -> Program:
    """A program of one session."""
    return program(name, session(name, turns), start_s=start_s)
