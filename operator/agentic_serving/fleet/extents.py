"""Stretches of cached blocks: what the pool's queue and index hold instead of single blocks.

An *extent* is a stretch of one copy's blocks with following ids and the same reference count. All copies of a
stretch lie in one *stack* of the index, oldest first, with the same bounds; whatever needs other bounds splits it.
"""

from bisect import bisect_left, bisect_right

from agentic_serving.errors import Bug

__all__ = ["Extent", "Holding", "Index"]


class Extent:
    """Blocks `first` to `first + count` of one copy. In the queue exactly if nobody refers to it."""

    __slots__ = ("count", "first", "newer", "older", "refs", "rest")

    def __init__(self, first: int, count: int, refs: int) -> None:
        self.first = first
        self.count = count
        self.refs = refs
        #: What a split cut off, for holdings that claimed the whole; of no meaning when nobody refers to it.
        self.rest: Extent | None = None
        self.older: Extent = self  # towards the front of the queue
        self.newer: Extent = self

    def unlink(self) -> None:
        self.older.newer, self.newer.older = self.newer, self.older

    def link_before(self, other: "Extent") -> None:
        """Stand in the queue directly before `other`, nearer to eviction."""
        self.older, self.newer = other.older, other
        other.older.newer = self
        other.older = self


class Holding:
    """The blocks of one sequence: `hashed` ones from its start, then `private` ones without identity."""

    __slots__ = ("claims", "hashed", "private")

    def __init__(self) -> None:
        #: Extents and how many blocks from their start were claimed; those may lie in their `rest` by now.
        self.claims: list[tuple[Extent, int]] = []
        self.hashed = 0
        self.private = 0

    @property
    def blocks(self) -> int:
        return self.hashed + self.private

    def claim(self, extent: Extent) -> None:
        """Refer to one more extent, which follows the others in the sequence."""
        self.claims.append((extent, extent.count))

    def extents(self) -> list[Extent]:
        """Every extent claimed, in the order of the sequence."""
        found: list[Extent] = []
        for claimed, count in self.claims:
            extent: Extent | None = claimed
            while count > 0:
                if extent is None:
                    raise Bug("a claim reaches beyond its extents")
                found.append(extent)
                count -= extent.count
                extent = extent.rest
        return found


class Index:
    """Block id → the stack of copies that covers it. Positions `at` are ranks by id, valid until the next change."""

    def __init__(self) -> None:
        self.starts: list[int] = []  # first ids of the stacks, ascending
        self.stacks: dict[int, list[Extent]] = {}

    def __len__(self) -> int:
        return len(self.starts)

    def stack(self, at: int) -> list[Extent]:
        return self.stacks[self.starts[at]]

    def find(self, block_id: int) -> int:
        """Rank of the stack that covers a block; -1: none."""
        at = bisect_right(self.starts, block_id) - 1
        if at < 0:
            return -1
        extent = self.stacks[self.starts[at]][0]
        return at if block_id < extent.first + extent.count else -1

    def gap_end(self, block_id: int, limit: int) -> int:
        """Where the gap that begins at an uncovered block ends, at most `limit`."""
        after = bisect_right(self.starts, block_id)
        return min(limit, self.starts[after]) if after < len(self.starts) else limit

    def add(self, extent: Extent) -> None:
        """A first copy of its blocks."""
        self.starts.insert(bisect_left(self.starts, extent.first), extent.first)
        self.stacks[extent.first] = [extent]

    def discard(self, extent: Extent) -> None:
        """One copy less."""
        stack = self.stacks[extent.first]
        stack.remove(extent)
        if not stack:
            del self.stacks[extent.first]
            del self.starts[bisect_left(self.starts, extent.first)]

    def single(self, extent: Extent) -> bool:
        """Whether these blocks have no other copy."""
        return len(self.stacks[extent.first]) == 1

    def cut_at(self, at: int, block_id: int) -> int:
        """Make a stack begin at a block that the stack of rank `at` covers; its rank then."""
        if self.starts[at] == block_id:
            return at
        self.split(at, block_id)
        return at + 1

    def split(self, at: int, block_id: int) -> None:
        """Cut every copy of a stack in two before a block; in the queue the later part goes first."""
        tails: list[Extent] = []
        for extent in self.stack(at):
            keep = block_id - extent.first
            tail = Extent(block_id, extent.count - keep, extent.refs)
            extent.count = keep
            if extent.refs:
                tail.rest, extent.rest = extent.rest, tail
            else:
                tail.link_before(extent)
            tails.append(tail)
        self.starts.insert(at + 1, block_id)
        self.stacks[block_id] = tails

    def check(self) -> None:
        """Stacks are in order, even, and do not overlap.

        Raises:
            Bug: they are not.
        """
        if self.starts != sorted(self.stacks):
            raise Bug("the index is out of order")
        end = 0
        for start in self.starts:
            stack = self.stacks[start]
            count = stack[0].count
            if start < end or count < 1 or any((e.first, e.count) != (start, count) for e in stack):
                raise Bug(f"the stack at block {start} overlaps its neighbour or is uneven")
            end = start + count
