"""One session's prompt, packed: 17 bytes a block, so that 45 turns stay small."""

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from agentic_serving.program.normalise import BlockKind, Role
from agentic_serving.program.prompt import Block, columns, kind_of, role_of, tokens_of

__all__ = ["MERGED", "Path"]

#: The content of a boundary that stands for several blocks.
MERGED = 0


class Path:
    """The boundaries of a prompt's blocks: chain, content (32 bits), bytes and kind of each.

    Equal chains mean equal prefixes, so boundaries may be dropped: what is left still compares exactly at its own places.
    """

    __slots__ = ("chains", "contents", "kinds", "sizes", "tokens_per_byte", "whole")

    def __init__(self, blocks: Sequence[Block] = ()) -> None:
        prompt = columns(blocks)  # shared with it until boundaries are merged
        self.chains, self.contents = prompt.chains, prompt.contents
        self.sizes, self.kinds = prompt.sizes, prompt.kinds
        self.tokens_per_byte = prompt.tokens_per_byte
        self.whole = len(prompt)  # blocks of the prompt, however many boundaries are left

    def __len__(self) -> int:
        return len(self.chains)

    def tokens(self, start: int = 0, stop: int | None = None) -> int:
        """Estimated, of the boundaries from `start` to before `stop`: those of a prefix and of the rest add up to the whole."""
        return self._prefix(len(self) if stop is None else stop) - self._prefix(start)

    def _prefix(self, stop: int) -> int:
        return tokens_of(sum(self.sizes[:stop]), self.tokens_per_byte)

    def kind(self, index: int) -> BlockKind:
        return kind_of(self.kinds[index])

    def role(self, index: int) -> Role:
        return role_of(self.kinds[index])

    def head(self) -> int:
        """How many leading boundaries are System or ToolCatalog."""
        return next((i for i in range(len(self)) if self.kind(i) in ("Turn", "Reasoning")), len(self))

    def places(self) -> dict[int, int]:
        """How many boundaries there are up to and with each chain."""
        return {chain: i for i, chain in enumerate(self.chains, 1)}

    def common(self, places: Mapping[int, int]) -> tuple[int, int]:
        """Boundaries of this path, and of the whole prompt with these places, up to the last one that both have.

        Whatever is a prefix of the other's prefix is one of the other: so there is a last one, found by halving.
        """
        kept = bisect_left(self.chains, 1, key=lambda chain: int(chain not in places))
        return (kept, places[self.chains[kept - 1]]) if kept else (0, 0)

    def goes_on(self, was: "Path") -> bool:
        """Whether this, a whole prompt, begins with all of the other."""
        return 0 < was.whole <= len(self) and self.chains[was.whole - 1] == was.chains[-1]

    def adopt(self, was: "Path") -> None:
        """Take the boundaries of the path that this one goes on from: merged ones need not be merged again."""
        new = slice(was.whole, None)
        self.chains = was.chains + self.chains[new]
        self.contents = was.contents + self.contents[new]
        self.sizes = was.sizes + self.sizes[new]
        self.kinds = was.kinds + self.kinds[new]

    def merge(self, keep: int) -> None:
        """Halve the oldest boundaries after the head until at most `keep` are left; the newest keep theirs."""
        while len(self) > max(keep, 2):
            first = min(self.head(), keep // 4)
            last = max(first + 2, first + (len(self) - first) // 2)
            if last > len(self):
                first, last = 0, 2
            self._pair(first, last)

    def _pair(self, first: int, last: int) -> None:
        end = first + (last - first) // 2 * 2
        pairs = zip(self.sizes[first:end:2], self.sizes[first + 1 : end : 2], strict=True)
        sums = array("I", [min(a + b, 0xFFFFFFFF) for a, b in pairs])
        self.chains = self.chains[:first] + self.chains[first + 1 : end : 2] + self.chains[end:]
        self.kinds = self.kinds[:first] + self.kinds[first + 1 : end : 2] + self.kinds[end:]
        self.sizes = self.sizes[:first] + sums + self.sizes[end:]
        self.contents = self.contents[:first] + array("I", [MERGED]) * len(sums) + self.contents[end:]

    def anchors(self) -> set[int]:
        """Chains by which others find this path: the first four, powers of two, the last two."""
        n = len(self)
        places = {*range(min(4, n)), *range(max(0, n - 2), n)}
        place = 8
        while place <= n:
            places.add(place - 1)
            place *= 2
        return {self.chains[i] for i in places}
