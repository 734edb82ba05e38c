"""Which part of a prompt is which message: the recorded blocks do not say, so it follows from how prompts grow.

A prompt begins with the tool catalogue and the system prompt. What a turn adds to the prompt that it extends is the
answer to that one (as many tokens as recorded, at most three quarters of what was added: reasoning is dropped), then the
tool's result or the human's message. Boundaries once set stay, so that the messages of a turn are those of its base and
new ones. After a compaction, or where the prompt was rewritten further back, the rest is one new user message.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from agentic_serving.capacity.runs import blocks, common_blocks, ids
from agentic_serving.workload.types import Session, Turn

__all__ = ["Part", "Role", "layouts", "tails"]

Role = Literal["tools", "system", "user", "assistant", "tool"]

#: A prompt that grew, and keeps all but this many blocks of its base, was appended to; the changed blocks are text that the
#: client rewrote in place (a reminder, a moved cache mark). 5 % of the recorded turns change one to nine.
_REWRITTEN_BLOCKS = 10
#: More turns than any session has: keeps the ids that are made up here apart.
_TURNS = 1_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """Recorded tokens `start` to `stop` (exclusive) of a prompt."""

    role: Role
    start: int
    stop: int


def layouts(session: Session) -> list[tuple[Part, ...]]:
    """For each turn its parts in order; they cover the prompt."""
    found: list[tuple[Part, ...]] = []
    for turn in session.turns:
        head = _head(session, turn)
        if turn.base is None:
            found.append(_rest(head, turn, "user"))
        else:
            found.append(_extended(head, session.turns[turn.base], found[turn.base], turn))
    return found


def tails(session: Session, ordinal: int) -> list[int]:
    """For each turn the id of the block that what follows its last full block is the beginning of.

    That is the block which the next prompt has there; where none extends this prompt, an id of its own, below 0.

    Args:
        ordinal: the session's place in its program: ids made up here differ between sessions.
    """
    heirs: dict[int, Turn] = {}
    for turn in session.turns:
        if turn.base is not None and turn.base not in heirs:
            base = session.turns[turn.base]
            if common_blocks(base.runs, turn.runs) == blocks(base.runs):
                heirs[turn.base] = turn
    found = [-(1 + ordinal * _TURNS + turn.index) for turn in session.turns]
    for turn in reversed(session.turns):
        heir = heirs.get(turn.index)
        if heir is not None:
            n = blocks(turn.runs)
            following = next(islice(ids(heir.runs), n, None), None)
            found[turn.index] = found[heir.index] if following is None else following
    return found


def _head(session: Session, turn: Turn) -> tuple[Part, ...]:
    """Tools and system prompt; at least one token is left for a message."""
    most = turn.prompt_tokens - 1
    tools = min(session.tool_tokens, most)
    system = min(tools + session.system_tokens, most)
    parts = (Part("tools", 0, tools), Part("system", tools, system))
    return tuple(p for p in parts if p.stop > p.start)


def _extended(head: tuple[Part, ...], base: Turn, parts: tuple[Part, ...], turn: Turn) -> tuple[Part, ...]:
    shared = common_blocks(base.runs, turn.runs) * turn.block_size
    added = turn.prompt_tokens - base.prompt_tokens
    if added <= 0 or shared < base.prompt_tokens - (_REWRITTEN_BLOCKS + 1) * turn.block_size:
        return _rest(_kept(head, parts, shared), turn, "user")
    answer = min(base.output_tokens, added * 3 // 4)
    if answer == 0:
        return _rest(parts, turn, "user")
    said = (*parts, Part("assistant", base.prompt_tokens, base.prompt_tokens + answer))
    return _rest(said, turn, "tool" if turn.gap_kind == "tool" else "user")


def _kept(head: tuple[Part, ...], parts: Sequence[Part], shared: int) -> tuple[Part, ...]:
    """Parts wholly within the shared tokens; a call without its result is left out."""
    kept = [p for p in parts if p.stop <= shared]
    while kept and kept[-1].role == "assistant":
        kept.pop()
    return head if len(kept) < len(head) else tuple(kept)


def _rest(parts: tuple[Part, ...], turn: Turn, role: Role) -> tuple[Part, ...]:
    start = parts[-1].stop if parts else 0
    return (*parts, Part(role, start, turn.prompt_tokens))
