"""What is remembered of runs, sessions and turns, for `explain run` and `top`. Times are the desk's clock, sizes are tokens."""

from collections import deque
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from agentic_serving.router import words

__all__ = ["MAX_SENTENCE", "MAX_STEPS", "RunRecord", "SessionRecord", "State", "TaskRecord", "TurnRecord"]

#: A call is decided upon once or twice; the rest is room for a host that tells more.
MAX_STEPS = 8
MAX_SENTENCE = 300  # characters
_MAX_TASKS = 256

#: Where a session's newest turn is. Away: it was answered, and the next has not come.
State = Literal["Held", "Prefill", "Decode", "Away"]


@dataclass(slots=True)
class TurnRecord:
    """A call from its attribution to its end.

    Attributes:
        steps: each decision and when.
        gap: what followed the answer, and for how long; known when the next turn comes.
    """

    came: words.Came
    at_s: float
    steps: list[tuple[float, words.Decided]] = field(default_factory=list)
    began: words.Began | None = None
    began_s: float | None = None
    done: words.Done | None = None
    done_s: float | None = None
    gap: words.Closed | None = None

    @property
    def state(self) -> State:
        if self.done is not None:
            return "Away"
        if self.began is not None:
            return "Decode"
        return "Held" if self.steps and self.steps[-1][1].verdict == "Hold" else "Prefill"

    @property
    def since_s(self) -> float:
        """When the state began."""
        if self.done_s is not None:
            return self.done_s
        if self.began_s is not None:
            return self.began_s
        return self.steps[-1][0] if self.steps else self.at_s

    @property
    def replica(self) -> str:
        """Where it was or is served, as far as anybody said."""
        said = [self.done.replica if self.done else "", self.began.replica if self.began else ""]
        return next((name for name in chain(said, (s.replica for _, s in reversed(self.steps))) if name), "")


@dataclass(slots=True)
class SessionRecord:
    """A session. `last` and `before`: its two newest turns; `over`: why and when it ended."""

    id: str
    parent: str | None
    last: TurnRecord
    before: TurnRecord | None = None
    over: str = ""
    over_s: float | None = None


@dataclass(frozen=True, slots=True)
class TaskRecord:
    at_s: float  # when it was told
    told: words.TaskDone


@dataclass(slots=True)
class RunRecord:
    """A run. `turns` in the order of arrival; `earlier` counts those that were forgotten."""

    id: str
    program: str
    at_s: float
    last_s: float
    sessions: dict[str, SessionRecord] = field(default_factory=dict)
    turns: deque[TurnRecord] = field(default_factory=deque)
    tasks: deque[TaskRecord] = field(default_factory=lambda: deque(maxlen=_MAX_TASKS))
    earlier: int = 0
    over: str = ""

    def forget_first(self) -> None:
        """Forget the oldest turn, and its session if that was all it had."""
        turn = self.turns.popleft()
        self.earlier += 1
        session = self.sessions.get(turn.came.session)
        if session is not None and session.last is turn:
            del self.sessions[session.id]
