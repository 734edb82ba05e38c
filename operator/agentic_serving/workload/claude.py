"""Claude Code sessions: one session a line, sub-agents nested in their parent's requests.

Format: `callanjfox/kv-cache-tester`, re-encoded. Two things its field names do not say, seen in the data:

- `t` of a sub-agent that `completed` is its *end*: `t - duration_ms` is equal to milliseconds for the agents of one
  fan-out, and lies right after the parent's answer. An `async_launched` one has no duration and its `t` is its start.
- `stop` is empty for many streamed requests. What the next request brings (`input_types`) tells what followed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from agentic_serving.capacity.runs import Runs
from agentic_serving.workload.fields import Reader
from agentic_serving.workload.lineage import with_bases
from agentic_serving.workload.types import GapKind, Program, Session, Turn, TurnId

__all__ = ["program"]


def program(line: Reader) -> Program:
    """The program of one line: its root session, then every sub-agent."""
    name = line.text("id")
    gathered = _Gathered(block_size=line.count("block_size", least=1))
    gathered.session(line, _Place(id=name, parent=None, agent="main", start_s=0.0, after=()))
    return Program(
        id=name,
        source="claude-code",
        scope=name,
        start_s=0.0,
        open_loop=False,
        sessions=tuple(
            sorted(gathered.sessions, key=lambda s: (s.parent is not None, s.turns[0].start_s, s.id))
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a session stands in its program."""

    id: str
    parent: str | None
    agent: str
    start_s: float
    after: tuple[TurnId, ...]


@dataclass(slots=True)
class _Gathered:
    """A program's sessions as they are found."""

    block_size: int
    sessions: list[Session] = field(default_factory=list)

    def session(self, entry: Reader, place: _Place) -> Session:
        """Read a session and its sub-agents; `sessions` grows by all of them."""
        turns: list[Turn] = []
        joining: list[TurnId] = []
        ends_s: list[float] = []
        for request in entry.children("requests"):
            if request.text("type") == "subagent":
                child, end_s = self._child(request, place, turns)
                if request.text("status", default="completed") != "async_launched":
                    joining.append(TurnId(child.id, len(child.turns) - 1))
                    ends_s.append(end_s)
                continue
            turn = self._turn(request, place, turns, joining)
            turns.append(_waiting(turn, joining, max(ends_s, default=0.0)))
            joining, ends_s = [], []
        if not turns:
            raise entry.refuse("requests", "holds no request")
        session = Session(
            id=place.id,
            parent=place.parent,
            agent=place.agent,
            tool_tokens=entry.count("tool_tokens", default=0),
            system_tokens=entry.count("system_tokens", default=0),
            turns=with_bases(_with_stops(turns)),
        )
        self.sessions.append(session)
        return session

    def _child(self, entry: Reader, place: _Place, turns: Sequence[Turn]) -> tuple[Session, float]:
        if not turns:
            raise entry.refuse("t", "a sub-agent before its parent's first request")
        duration_s = entry.number("duration_ms", default=0.0) / 1000
        start_s = place.start_s + entry.number("t") - duration_s
        launcher = turns[-1]
        at_s = max(start_s, launcher.start_s + (launcher.api_s or 0.0))
        child = self.session(
            entry,
            _Place(
                id=f"{place.id}/{entry.text('agent_id')}",
                parent=place.id,
                agent=entry.text("subagent_type", default="subagent"),
                start_s=at_s,
                after=(TurnId(place.id, launcher.index),),
            ),
        )
        last = child.turns[-1]
        return child, last.start_s + (last.api_s or 0.0)

    def _turn(self, request: Reader, place: _Place, turns: Sequence[Turn], joining: Sequence[TurnId]) -> Turn:
        prompt_tokens = request.count("in", least=1)
        runs = _runs(request)
        if sum(count for _, count in runs) * self.block_size > prompt_tokens:
            raise request.refuse("hash_runs", f"covers more than the {prompt_tokens} tokens of `in`")
        types = request.items("input_types", optional=True)
        first = not turns
        kind: GapKind = "tool" if (joining and not first) or (first and place.parent) else _kind(turns, types)
        api_s = request.value.get("api_time")
        return Turn(
            index=len(turns),
            runs=runs,
            block_size=self.block_size,
            prompt_tokens=prompt_tokens,
            output_tokens=request.count("out", least=0),
            gap_s=request.number("think_time", default=0.0, least=-1e9) if not first else 0.0,
            gap_kind=kind,
            stop="end" if request.text("stop", default="") == "end_turn" else "tool",
            stream=request.text("type") == "s",
            start_s=place.start_s + request.number("t"),
            api_s=None if api_s is None else request.number("api_time"),
            after=place.after if first else (),
        )


def _runs(request: Reader) -> Runs:
    found = []
    for run in request.items("hash_runs"):
        if not isinstance(run, list) or len(run) != 2 or not all(isinstance(n, int) for n in run):
            raise request.refuse("hash_runs", "expected [[first_id, count], ...]")
        if run[0] < 0 or run[1] < 1:
            raise request.refuse("hash_runs", "ids start at 0 and counts at 1")
        found.append((run[0], run[1]))
    return tuple(found)


def _kind(turns: Sequence[Turn], types: Sequence[object]) -> GapKind:
    """A tool's result comes back, unless the answer before was final or only a person's text came."""
    if not turns or turns[-1].stop == "end":
        return "human"
    return "tool" if "tool_result" in types else "human"


def _waiting(turn: Turn, joining: Sequence[TurnId], ended_s: float) -> Turn:
    """The turn that waits for sub-agents: its gap counts from the end of the last one."""
    if not joining:
        return replace(turn, gap_s=max(turn.gap_s, 0.0))
    gap_s = max(turn.start_s - ended_s, 0.0)
    return replace(turn, gap_s=gap_s, after=(*turn.after, *joining))


def _with_stops(turns: Sequence[Turn]) -> list[Turn]:
    """What really followed each answer; the last of a session keeps what was recorded, an unknown one is an end."""
    found = [
        replace(turn, stop="tool" if following.gap_kind == "tool" else "end")
        for turn, following in pairwise(turns)
    ]
    return [*found, replace(turns[-1], stop="end")]
