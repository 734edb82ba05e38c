"""One session's prompt, packed: 17 bytes a block, so that 45 turns stay small."""

from array import array
from collections.abc import Iterator, Sequence

from agentic_serving.program.blocks import Block

__all__ = ["MERGED", "Path"]

_KINDS = ("System", "ToolCatalog", "Turn", "Reasoning")
_ROLES = ("", "user", "assistant", "tool")
#: The content of a boundary that stands for several blocks.
MERGED = 0


class Path:
    """The boundaries of a prompt's blocks: chain, content (32 bits), tokens and kind of each.

    Equal chains mean equal prefixes, so boundaries may be dropped: what is left still compares exactly at its own places.
    """

    __slots__ = ("chains", "contents", "kinds", "tokens")

    def __init__(self, blocks: Sequence[Block] = ()) -> None:
        self.chains = array("Q", [b.chain for b in blocks])
        self.contents = array("I", [(b.content & 0xFFFFFFFF) or 1 for b in blocks])
        self.tokens = array("I", [min(b.tokens, 0xFFFFFFFF) for b in blocks])
        self.kinds = bytearray(_KINDS.index(b.kind) * 4 + _ROLES.index(b.role) for b in blocks)

    def __len__(self) -> int:
        return len(self.chains)

    def kind(self, index: int) -> str:
        return _KINDS[self.kinds[index] // 4]

    def role(self, index: int) -> str:
        return _ROLES[self.kinds[index] % 4]

    def head(self) -> int:
        """How many leading boundaries are System or ToolCatalog."""
        return next((i for i in range(len(self)) if self.kind(i) in ("Turn", "Reasoning")), len(self))

    def common(self, other: "Path") -> tuple[int, int]:
        """Boundaries of this path, and of the other, up to the last one that both have."""
        places = {chain: i for i, chain in enumerate(other.chains)}
        for i in range(len(self) - 1, -1, -1):
            if (place := places.get(self.chains[i])) is not None:
                return i + 1, place + 1
        return 0, 0

    def merge(self, keep: int) -> None:
        """Halve the oldest boundaries after the head until at most `keep` are left; the newest keep theirs."""
        while len(self) > max(keep, 2):
            first = min(self.head(), keep // 4)
            last = max(first + 2, first + (len(self) - first) // 2)
            if last > len(self):
                first, last = 0, 2
            self._pair(first, last)

    def _pair(self, first: int, last: int) -> None:
        kept = Path()
        i = first
        for part in range(first):
            kept._take(self, part, self.tokens[part], self.contents[part])
        while i + 1 < last:
            total = min(self.tokens[i] + self.tokens[i + 1], 0xFFFFFFFF)
            kept._take(self, i + 1, total, MERGED)
            i += 2
        for part in range(i, len(self)):
            kept._take(self, part, self.tokens[part], self.contents[part])
        self.chains, self.contents, self.tokens, self.kinds = (
            kept.chains,
            kept.contents,
            kept.tokens,
            kept.kinds,
        )

    def _take(self, source: "Path", index: int, tokens: int, content: int) -> None:
        self.chains.append(source.chains[index])
        self.contents.append(content)
        self.tokens.append(tokens)
        self.kinds.append(source.kinds[index])

    def anchors(self) -> Iterator[int]:
        """Chains by which others find this path: the first four, powers of two, the last four."""
        n = len(self)
        places = {*range(min(4, n)), *range(max(0, n - 4), n)}
        place = 8
        while place <= n:
            places.add(place - 1)
            place *= 2
        return (self.chains[i] for i in places)
