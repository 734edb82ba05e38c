"""What a replay notes about every turn, and tells whoever watches."""

from collections.abc import Callable
from dataclasses import dataclass

from agentic_serving.replay.answers import Usage
from agentic_serving.replay.bodies import Api
from agentic_serving.replay.clients import Client

__all__ = [
    "Calibrated",
    "Event",
    "OnEvent",
    "ProgramEnded",
    "ProgramStarted",
    "TurnEnded",
    "TurnRecord",
    "TurnStarted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """One turn as it went.

    Attributes:
        program, session, turn, task: where it stands in the trace; `lap` counts how often the program was replayed before.
        agent: what kind of agent.
        kind: `turn`, or `side` for a client's own side request.
        gap_kind: what came before: a tool or a human.
        ends_task, ends_session: nothing follows in it.
        started_s: from the start of the replay.
        first_token_s: from the first attempt to the first token; None where none came.
        completion_s: from the first attempt to the end of the answer, retries and their waits included.
        expected_tokens: the recorded prompt at the token scale, without the chat template's own tokens.
        error: why it failed for good; empty where it did not.
        detail: the server's own words on that.
        retried: why each attempt before the last failed.
    """

    program: str
    lap: int
    session: str
    agent: str
    turn: int
    task: int
    kind: str
    client: Client
    api: Api
    gap_kind: str
    ends_task: bool
    ends_session: bool
    started_s: float
    first_token_s: float | None
    completion_s: float
    expected_tokens: int
    usage: Usage | None
    error: str = ""
    detail: str = ""
    retried: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, int]:
        """The same turn in another replay."""
        return (self.program, self.session, self.turn)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The server's tokenizer was measured (or given)."""

    tokens_per_word: float


@dataclass(frozen=True, slots=True)
class ProgramStarted:
    program: str
    lap: int
    n_sessions: int
    n_turns: int


@dataclass(frozen=True, slots=True)
class TurnStarted:
    program: str
    session: str
    turn: int


@dataclass(frozen=True, slots=True)
class TurnEnded:
    record: TurnRecord


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """`whole`: every turn was sent; not so after a stop."""

    program: str
    lap: int
    whole: bool


Event = Calibrated | ProgramStarted | TurnStarted | TurnEnded | ProgramEnded
OnEvent = Callable[[Event], None]
