"""A conversation as it is generated: a context that grows, and the turns that were asked with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from agentic_serving.capacity.runs import Runs, blocks, cut
from agentic_serving.workload.lineage import with_bases
from agentic_serving.workload.types import GapKind, Program, Session, Turn, TurnId

__all__ = ["Context", "Ids", "Talk", "program"]


class Ids:
    """Block ids of one scope: each is given out once, so that only contexts that grew from one another share any."""

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self._next = 0

    def take(self, count: int) -> Runs:
        first = self._next
        self._next += count
        return ((first, count),) if count else ()


@dataclass(frozen=True, slots=True)
class Context:
    """Tokens from the first on: the ids of the full blocks, then a tail without one."""

    runs: Runs = ()
    tokens: int = 0

    def grown(self, tokens: int, ids: Ids) -> "Context":
        total = self.tokens + tokens
        return Context(_joined(self.runs, ids.take(total // ids.block_size - blocks(self.runs))), total)

    def rounded(self, ids: Ids) -> "Context":
        """Grown to whole blocks."""
        return self.grown(-self.tokens % ids.block_size, ids)

    def cut(self, tokens: int, ids: Ids) -> "Context":
        """The first so many tokens."""
        kept = min(tokens, self.tokens)
        return Context(cut(self.runs, 0, kept // ids.block_size), kept)


class Talk:
    """One session under way."""

    def __init__(
        self,
        name: str,
        ids: Ids,
        context: Context | None = None,
        *,
        agent: str = "main",
        parent: str | None = None,
        system_tokens: int = 0,
    ) -> None:
        self.context = context or Context()
        self.turns: list[Turn] = []
        self._ids = ids
        self._session = Session(
            id=name, parent=parent, agent=agent, tool_tokens=0, system_tokens=system_tokens, turns=()
        )

    @property
    def last(self) -> TurnId:
        return TurnId(self._session.id, len(self.turns) - 1)

    def hear(self, tokens: int) -> None:
        """What a person, a tool or another agent says."""
        self.context = self.context.grown(tokens, self._ids)

    def answer(
        self, tokens: int, *, gap_s: float = 0.0, kind: GapKind = "tool", after: Sequence[TurnId] = ()
    ) -> TurnId:
        """A model call with all that was heard; its answer becomes part of the context."""
        self.turns.append(
            Turn(
                index=len(self.turns),
                runs=self.context.runs,
                block_size=self._ids.block_size,
                prompt_tokens=self.context.tokens,
                output_tokens=tokens,
                gap_s=gap_s if self.turns else 0.0,
                gap_kind=kind,
                stop="end",
                stream=True,
                start_s=0.0,
                api_s=None,
                after=tuple(after),
            )
        )
        self.hear(tokens)
        return self.last

    def session(self) -> Session:
        stopped = [
            replace(turn, stop="tool" if following.gap_kind == "tool" else "end")
            for turn, following in pairwise(self.turns)
        ]
        return replace(self._session, turns=with_bases([*stopped, self.turns[-1]]))


def program(name: str, talks: Sequence[Talk], *, scope: str | None = None) -> Program:
    """The program of these sessions, the root first."""
    return Program(
        id=name,
        source="generated",
        scope=scope or name,
        start_s=0.0,
        open_loop=False,
        sessions=tuple(talk.session() for talk in talks),
    )


def _joined(runs: Runs, more: Runs) -> Runs:
    if runs and more and sum(runs[-1]) == more[0][0]:
        return (*runs[:-1], (runs[-1][0], runs[-1][1] + more[0][1]), *more[1:])
    return runs + more
