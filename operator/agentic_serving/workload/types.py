"""A recorded workload: programs of sessions of turns, as plain values.

Times are seconds, sizes tokens. A program's sessions form a tree (an agent and its sub-agents); what a turn waits for is
said turn by turn, so that chains, fan-outs, joins and small graphs are the same thing to whoever replays or simulates them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from agentic_serving.capacity.runs import Runs, common_blocks

__all__ = [
    "GapKind",
    "Message",
    "Program",
    "Session",
    "Source",
    "Task",
    "Totals",
    "Turn",
    "TurnId",
    "tasks",
    "totals",
]

GapKind = Literal["human", "tool"]
Source = Literal["claude-code", "mooncake", "otel", "generated"]


@dataclass(frozen=True, slots=True)
class TurnId:
    """A turn of a program: the session's id and the turn's place in it, from 0."""

    session: str
    turn: int


@dataclass(frozen=True, slots=True)
class Message:
    """A recorded message with its text: only traces that hold text have them."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One recorded model call.

    Attributes:
        runs: ids of the prompt's full blocks; what is left of `prompt_tokens` is a tail without an id. (Mooncake gives
            that tail an id too: there the last block may be partial.)
        gap_s: time between the end of everything this turn waits for and its start.
        gap_kind: what passed in the gap: a tool ran, or a human thought.
        stop: what follows the answer: a tool runs, or nothing (a human reads, or the session is over).
        stream: the answer was streamed when recorded.
        start_s: recorded start, from the program's start.
        api_s: how long the call took when recorded; None where it was not recorded.
        after: turns of other sessions that must have ended; the session's own previous turn is implied.
        base: the earlier turn of the session whose prompt this one extends; None where it shares no block with any.
        messages: the prompt's text, where the trace holds it.
    """

    index: int
    runs: Runs
    block_size: int
    prompt_tokens: int
    output_tokens: int
    gap_s: float
    gap_kind: GapKind
    stop: Literal["tool", "end"]
    stream: bool
    start_s: float
    api_s: float | None
    after: tuple[TurnId, ...] = ()
    base: int | None = None
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One agent's conversation.

    Attributes:
        parent: id of the session that started this one; None for a program's first.
        agent: what kind of agent: `main`, a sub-agent's type, or a service's name.
        tool_tokens: the prompt's first tokens: the tool catalogue; 0 where not recorded.
        system_tokens: the next ones: the system prompt.
    """

    id: str
    parent: str | None
    agent: str
    tool_tokens: int
    system_tokens: int
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One recorded run of an agentic application: `sessions[0]` is its root.

    Attributes:
        scope: block ids mean the same within one scope only.
        start_s: when it arrives, from the start of the trace.
        open_loop: it arrives at `start_s` whatever happened before; else programs follow each other as slots get free.
    """

    id: str
    source: Source
    scope: str
    start_s: float
    open_loop: bool
    sessions: tuple[Session, ...]

    def turns(self) -> Iterator[tuple[Session, Turn]]:
        """Every turn of every session, session by session."""
        for session in self.sessions:
            for turn in session.turns:
                yield session, turn


@dataclass(frozen=True, slots=True)
class Task:
    """Turns `first` to `last` of a session: from a human message to the answer that calls no tool."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a set of programs adds up to.

    Attributes:
        repeated_tokens: prompt tokens in blocks that an earlier turn of the same session had at the same place.
    """

    programs: int
    sessions: int
    turns: int
    tasks: int
    prompt_tokens: int
    output_tokens: int
    repeated_tokens: int


def tasks(session: Session) -> tuple[Task, ...]:
    """A session's tasks, in order; every turn is in exactly one."""
    starts = [t.index for t in session.turns if t.index == 0 or t.gap_kind == "human"]
    ends = [*(s - 1 for s in starts[1:]), len(session.turns) - 1]
    return tuple(Task(first, last) for first, last in zip(starts, ends, strict=True))


def totals(programs: Iterable[Program]) -> Totals:
    """Counts and tokens of all programs."""
    found = [(program, session) for program in programs for session in program.sessions]
    turns = [turn for _, session in found for turn in session.turns]
    return Totals(
        programs=len({id(program) for program, _ in found}),
        sessions=len(found),
        turns=len(turns),
        tasks=sum(len(tasks(session)) for _, session in found),
        prompt_tokens=sum(t.prompt_tokens for t in turns),
        output_tokens=sum(t.output_tokens for t in turns),
        repeated_tokens=sum(_repeated(session) for _, session in found),
    )


def _repeated(session: Session) -> int:
    turns = session.turns
    return sum(common_blocks(turns[t.base].runs, t.runs) * t.block_size for t in turns if t.base is not None)
