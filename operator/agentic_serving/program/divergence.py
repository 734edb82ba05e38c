"""Why a session's prompt is what it is after the one before it: rules over two paths of blocks, the surest first.

Rules of thumb where content alone cannot tell: a person who goes back to the first message looks like a compaction that kept it.
"""

from typing import Literal

from agentic_serving.program.graph_path import MERGED, Path
from agentic_serving.program.prompt import tokens_of

__all__ = ["Divergence", "dropped_reasoning", "why"]

Divergence = Literal[
    "none", "append", "fork", "join", "compaction", "abandoned branch", "dropped reasoning", "edit"
]


def why(was: Path, kept: int, path: Path, mine: int) -> Divergence:
    """How a prompt follows the one before it.

    Args:
        kept: boundaries of the old path that are still there from the start.
        mine: the same place in the new path.
    """
    if kept == len(was):
        return "none" if mine == len(path) else "append"
    if _only_reasoning_gone(was, kept, path, mine):
        return "dropped reasoning"
    head = was.head()
    shorter = sum(path.sizes) * path.tokens_per_byte < sum(was.sizes) * was.tokens_per_byte
    if _again(was, kept, path, mine):
        return "compaction" if shorter else "edit"  # what was left out, or cut, is not what changed
    if kept <= head + 1 and shorter:
        return "compaction"
    return "abandoned branch" if kept > head else "edit"


def dropped_reasoning(was: Path, kept: int, path: Path, mine: int) -> int:
    """Tokens of reasoning in what was lost that the new prompt has nowhere. Merged boundaries do not say: not counted."""
    if kept == len(was):
        return 0
    now = set(path.contents[mine:])
    gone = sum(
        was.sizes[i]
        for i in range(kept, len(was))
        if was.kind(i) == "Reasoning" and was.contents[i] != MERGED and was.contents[i] not in now
    )
    return tokens_of(gone, was.tokens_per_byte)


def _again(was: Path, kept: int, path: Path, mine: int) -> bool:
    """Something behind the change is there again, so that what was before it was changed."""
    return not set(path.contents[mine:]).isdisjoint(set(was.contents[kept + 1 :]) - {MERGED})


def _only_reasoning_gone(was: Path, kept: int, path: Path, mine: int) -> bool:
    """The old blocks are all still there in order, but for reasoning; of that at least one is gone, and none is new among them."""
    old = [(was.kind(i), was.contents[i]) for i in range(kept, len(was))]
    new = iter([(path.kind(i), path.contents[i]) for i in range(mine, len(path))])
    gone = 0
    following = next(new, None)
    for block in old:
        if block == following:
            following = next(new, None)
        elif block[0] == "Reasoning":
            gone += 1
        else:
            return False
    return gone > 0 and (MERGED not in was.contents[kept:])
