"""Recorded programs as scripts for a simulation: every turn with what it waits for, and what waits for it.

Known to the simulated world only; of it, policies see `TurnView`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agentic_serving.capacity.runs import Runs, blocks, common_blocks, cut
from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.types import Limits
from agentic_serving.workload import GapKind, Program, Session, Turn, TurnId, tasks

__all__ = ["Gaps", "Script", "Span", "Work", "script", "shifted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """How recorded gaps become simulated ones: scaled, then capped."""

    tool_scale: float = 1.0
    human_scale: float = 1.0
    max_s: float = 300.0  # a person who left for lunch says nothing about serving

    def gap_s(self, turn: Turn) -> float:
        scale = self.human_scale if turn.gap_kind == "human" else self.tool_scale
        return min(turn.gap_s * scale, self.max_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One turn of a script. Places are positions in `Script.works`.

    Attributes:
        runs: the prompt's full blocks, then those of the answer that a later prompt repeats.
        prompt_runs: the prompt's alone.
        waits: how many turns must have ended first.
        dependents: who waits for this one.
        agent: the session's kind of agent.
        stack: whose replicas it runs on.
    """

    session: str
    parent: str | None
    index: int
    kind: GapKind
    runs: Runs
    prompt_runs: Runs
    prompt_tokens: int
    output_tokens: int
    gap_s: float
    after: tuple[int, ...]
    dependents: tuple[int, ...]
    agent: str = "main"
    stack: str = ""

    @property
    def waits(self) -> int:
        return len(self.after)


@dataclass(frozen=True, slots=True)
class Span:
    """A task's first and last turn, as positions in `Script.works`."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A program that can be run any number of times.

    Attributes:
        tasks: of the root session: what sub-agents do is part of the task that started them.
        order: positions such that each comes after what it waits for.
        human_s: sum of the root's human gaps, which do not count as completion time.
        max_block: the highest block id.
    """

    id: str
    scope: str
    start_s: float
    works: tuple[Work, ...]
    tasks: tuple[Span, ...]
    order: tuple[int, ...]
    human_s: float
    max_block: int

    @property
    def roots(self) -> Iterator[int]:
        """Turns that wait for nothing."""
        return (at for at, work in enumerate(self.works) if not work.after)


def script(program: Program, places: Callable[[str], tuple[str, Limits]], gaps: Gaps) -> Script:
    """The script of a program. `places` says of an agent which stack it uses, and the limits of its replicas.

    Raises:
        InvalidInput: its blocks have another size, a turn can never fit, or turns wait for each other.
    """
    at = {TurnId(session.id, turn.index): i for i, (session, turn) in enumerate(program.turns())}
    after = [_after(session, turn, at) for session, turn in program.turns()]
    dependents: list[list[int]] = [[] for _ in at]
    for position, earlier in enumerate(after):
        for one in earlier:
            dependents[one].append(position)
    works = tuple(
        _work(program, session, turn, places(session.agent), gaps, after[i], tuple(dependents[i]))
        for i, (session, turn) in enumerate(program.turns())
    )
    root = program.sessions[0]
    human = [gaps.gap_s(turn) for turn in root.turns if turn.index and turn.gap_kind == "human"]
    return Script(
        id=program.id,
        scope=program.scope,
        start_s=program.start_s,
        works=works,
        tasks=tuple(Span(t.first, t.last) for t in tasks(root)),  # the root's turns come first
        order=_ordered(program.id, works),
        human_s=sum(human),
        max_block=max((first + count for work in works for first, count in work.runs), default=0),
    )


def shifted(runs: Runs, offset: int) -> Runs:
    """The same chain under ids of its own."""
    return tuple((first + offset, count) for first, count in runs)


def _after(session: Session, turn: Turn, at: dict[TurnId, int]) -> tuple[int, ...]:
    own = (at[TurnId(session.id, turn.index - 1)],) if turn.index else ()
    return tuple(dict.fromkeys((*own, *(at[one] for one in turn.after))))


def _work(
    program: Program,
    session: Session,
    turn: Turn,
    place: tuple[str, Limits],
    gaps: Gaps,
    after: tuple[int, ...],
    dependents: tuple[int, ...],
) -> Work:
    where = f"{program.id}: {session.id}[{turn.index}]"
    stack, limits = place
    size = limits.block_size
    if turn.block_size != size:
        raise InvalidInput(where, f"has blocks of {turn.block_size} tokens, the replicas of {size}")
    output = max(1, turn.output_tokens)
    if turn.prompt_tokens + output > limits.usable_tokens:
        raise InvalidInput(where, f"{turn.prompt_tokens + output} tokens never fit {limits.usable_tokens}")
    prompt = cut(turn.runs, 0, turn.prompt_tokens // size)
    return Work(
        session=session.id,
        parent=session.parent,
        index=turn.index,
        kind=turn.gap_kind,
        runs=_with_answer(session, turn, prompt, (turn.prompt_tokens + output) // size),
        prompt_runs=prompt,
        prompt_tokens=turn.prompt_tokens,
        output_tokens=output,
        gap_s=gaps.gap_s(turn) if turn.index else 0.0,
        after=after,
        dependents=dependents,
        agent=session.agent,
        stack=stack,
    )


def _with_answer(session: Session, turn: Turn, prompt: Runs, full: int) -> Runs:
    """The prompt's blocks and the answer's, whose ids the next prompt that extends this one tells."""
    for later in session.turns[turn.index + 1 :]:
        if later.base != turn.index:
            continue
        end = later.prompt_tokens // later.block_size
        if common_blocks(prompt, later.runs) == blocks(prompt):
            return cut(later.runs, 0, max(min(full, end), blocks(prompt)))
    return prompt


def _ordered(name: str, works: tuple[Work, ...]) -> tuple[int, ...]:
    waits = [work.waits for work in works]
    found = [at for at, count in enumerate(waits) if not count]
    for at in found:  # grows while it is read
        for dependent in works[at].dependents:
            waits[dependent] -= 1
            if not waits[dependent]:
                found.append(dependent)
    if len(found) < len(works):
        raise InvalidInput(name, "has turns that wait for each other")
    return tuple(found)
