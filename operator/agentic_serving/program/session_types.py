"""What the registry of sessions answers with: values, which stay as they were when it goes on."""

from dataclasses import dataclass
from typing import Literal

from agentic_serving.program.identity import TurnKind

__all__ = ["Arrival", "Gone", "RunState", "SessionState"]


@dataclass(frozen=True, slots=True)
class Gone:
    """A session is over; the run too, if `session == run`."""

    session: str
    run: str
    why: Literal["ended", "idle", "evicted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a request turned out to be.

    Attributes:
        retry: confidence that it repeats a request of the same turn; 0: it does not.
        new: nothing of this session was seen before.
        turn: its place among the session's turns, from 0; of a side request, the place of the turn before it.
        confidence: that it is this session; 0: a session made for it.
        joined: runs that turned out to be part of this one: what is kept by their names belongs to `run`.
        gone: who had to leave, as there were too many.
    """

    session: str
    run: str
    parent: str | None
    kind: TurnKind
    side: str
    retry: float
    new: bool
    turn: int
    confidence: float
    joined: tuple[str, ...] = ()
    gone: tuple[Gone, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """A session as it is now. `seen`: False for a parent that others name."""

    session: str
    run: str
    parent: str | None
    children: tuple[str, ...]
    seen: bool
    turns: int
    in_flight: int
    attained_tokens: int
    seen_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """A run as it is now. `task_tokens`: computed since the last human's message to its root."""

    run: str
    sessions: int
    turns: int
    tasks: int
    in_flight: int
    attained_tokens: int
    task_tokens: int
    started_s: float
    seen_s: float
