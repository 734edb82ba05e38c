"""A pool of KV blocks with vLLM's prefix cache over it, in steps per run instead of per block.

The rules are those of vLLM's block pool since 0.24 (`vllm/v1/core/block_pool.py`: `free_blocks`, `get_new_blocks`,
`cache_full_blocks`):
- Only full blocks have an identity and can be hit. A hit block is shared, and counted.
- A sequence gives its blocks back last block first. Blocks with an identity go to the end of one queue, the ones
  without to its front; new blocks come from the front, and lose their identity there. That is LRU by sequence in
  which the end of a prompt goes before its beginning.
- Two sequences that compute the same block at the same time keep a copy each. A hit takes the oldest copy.

Why extents are exact: one in the queue gives its highest id first, so cutting it in two changes no order, and two
that follow each other in the queue and in ids are the same as one.
"""

from bisect import bisect_right

from agentic_serving.capacity.runs import Runs, blocks, cut
from agentic_serving.errors import Bug
from agentic_serving.fleet.events import BlocksCleared, BlocksRemoved, BlocksStored, CacheEvent
from agentic_serving.fleet.extents import Extent, Holding, Index

__all__ = ["BlockPool", "Holding"]


class BlockPool:
    """`capacity` blocks, and which of them can be hit.

    `free` counts blocks that nobody refers to, with or without identity. With `journal` set to a list, every change
    of what can be hit is appended to it.
    """

    def __init__(self, capacity: int, *, medium: str = "GPU") -> None:
        self.capacity = capacity
        self.free = capacity
        self.journal: list[CacheEvent] | None = None
        self._medium = medium
        self._blank = capacity  # free and without identity: the front of the queue
        self._queue = Extent(-1, 0, 0)  # the head of the ring: its `newer` is evicted next
        self._index = Index()

    def match(self, runs: Runs, limit: int) -> tuple[int, int]:
        """(how many of the first `limit` blocks can be hit without a gap, how many of those nobody refers to)."""
        starts, stacks = self._index.starts, self._index.stacks
        n_stacks = len(starts)
        found = idle = 0
        for first, count in runs:
            position, end = first, first + min(count, limit - found)
            at = bisect_right(starts, position) - 1
            while position < end:
                if not 0 <= at < n_stacks:
                    return found, idle
                extent = stacks[starts[at]][0]
                reach = extent.first + extent.count
                if extent.first > position or reach <= position:
                    return found, idle
                if reach > end:
                    reach = end
                found += reach - position
                if not extent.refs:
                    idle += reach - position
                position = reach
                at += 1
            if found >= limit:
                break
        return found, idle

    def acquire(self, holding: Holding, runs: Runs) -> None:
        """Refer to blocks that `match` has just found; they follow what the holding has."""
        for first, count in runs:
            self._claim(holding, first, first + count)

    def take(self, holding: Holding, count: int) -> None:
        """Give a holding new blocks, from the front of the queue.

        Raises:
            Bug: there are not as many free blocks; ask `free` first.
        """
        if count > self.free:
            raise Bug(f"{count} blocks wanted, {self.free} free")
        self.free -= count
        holding.private += count
        blank = min(self._blank, count)
        self._blank -= blank
        count -= blank
        while count > 0:
            extent = self._queue.newer
            gone = min(count, extent.count)
            self._evict(extent, gone)
            count -= gone

    def commit(self, holding: Holding, runs: Runs, parent: int | None) -> None:
        """Give the first private blocks of a holding these identities: they are full and can be hit now."""
        if self.journal is not None and runs:
            self.journal.append(BlocksStored(runs, parent, self._medium))
        for first, count in runs:
            if holding.private < count:
                raise Bug("more blocks became full than the sequence had")
            holding.private -= count
            holding.hashed += count
            position, end = first, first + count
            while position < end:
                position = self._store(holding, position, end)

    def release(self, holding: Holding) -> None:
        """Give all blocks back, the last first."""
        self._blank += holding.private
        self.free += holding.private
        for extent in reversed(holding.extents()):
            extent.refs -= 1
            if not extent.refs:
                self._enqueue(extent)
        holding.claims.clear()
        holding.hashed = holding.private = 0

    def touch(self, runs: Runs) -> None:
        """Make these blocks the most recent ones, up to the first that is not there."""
        holding = Holding()
        found, _ = self.match(runs, blocks(runs))
        self.acquire(holding, cut(runs, 0, found))
        self.release(holding)

    def insert(self, runs: Runs) -> None:
        """Make these blocks the most recent ones, storing those that are missing: what a tier does.

        Blocks that do not fit beside the earlier ones of the same chain are left out.
        """
        holding = Holding()
        for first, count in runs:
            position, end = first, first + count
            while position < end and (reached := self._insert(holding, position, end)) > position:
                position = reached
        self.release(holding)

    def reset(self) -> bool:
        """Forget every identity; False, and nothing changes, while anything is referred to."""
        if self.free != self.capacity:
            return False
        self._blank = self.capacity
        self._queue = Extent(-1, 0, 0)
        self._index = Index()
        if self.journal is not None:
            self.journal.append(BlocksCleared())
        return True

    def extents(self) -> list[tuple[int, int, int]]:
        """(first id, count, references) of every copy, by id."""
        return [(e.first, e.count, e.refs) for at in range(len(self._index)) for e in self._index.stack(at)]

    def queue(self) -> list[tuple[int, int]]:
        """(first id, count) of what can be evicted, next first; within one the highest id goes first."""
        found: list[tuple[int, int]] = []
        extent = self._queue.newer
        while extent is not self._queue:
            found.append((extent.first, extent.count))
            extent = extent.newer
        return found

    def check(self, holdings: list[Holding]) -> None:
        """Every block is somewhere exactly once, and references are those of the holdings.

        Raises:
            Bug: an invariant does not hold.
        """
        self._index.check()
        expected: dict[int, int] = {}
        for holding in holdings:
            extents = holding.extents()
            if sum(extent.count for extent in extents) != holding.hashed or holding.private < 0:
                raise Bug("a holding's claims are not its hashed blocks")
            for extent in extents:
                expected[id(extent)] = expected.get(id(extent), 0) + 1
        copies = [extent for at in range(len(self._index)) for extent in self._index.stack(at)]
        for extent in copies:
            if extent.refs != expected.pop(id(extent), 0):
                raise Bug(f"block {extent.first} has {extent.refs} references that are not its holdings'")
        if expected:
            raise Bug("a holding claims an extent that is not in the index")
        if sorted(self.queue()) != [(e.first, e.count) for e in copies if not e.refs]:
            raise Bug("the queue is not what nobody refers to")
        self._check_sums(copies, sum(holding.private for holding in holdings))

    def _check_sums(self, copies: list[Extent], private: int) -> None:
        hashed = sum(extent.count for extent in copies)
        if self._blank < 0 or self._blank + hashed + private != self.capacity:
            raise Bug(f"{self._blank} blank, {hashed} hashed and {private} private are not {self.capacity}")
        idle = sum(extent.count for extent in copies if not extent.refs)
        if self._blank + idle != self.free:
            raise Bug(f"{self._blank} blank and {idle} idle are not the {self.free} free ones")

    def _claim(self, holding: Holding, position: int, end: int) -> None:
        index = self._index
        at = index.cut_at(index.find(position), position)
        while position < end:
            extent = index.stack(at)[0]
            if position + extent.count > end:
                index.split(at, end)
            if not extent.refs:
                extent.unlink()
                self.free -= extent.count
            extent.refs += 1
            holding.claim(extent)
            holding.hashed += extent.count
            position += extent.count
            at += 1

    def _evict(self, extent: Extent, count: int) -> None:
        """Take the identity of the last `count` blocks of the extent at the front of the queue."""
        keep = extent.count - count
        if self.journal is not None:
            self.journal.append(BlocksRemoved(((extent.first + keep, count),), self._medium))
        if not keep:
            extent.unlink()
            self._index.discard(extent)
        elif self._index.single(extent):
            extent.count = keep
        else:
            self._index.split(self._index.find(extent.first), extent.first + keep)
            tail = extent.older
            tail.unlink()
            self._index.discard(tail)

    def _store(self, holding: Holding, position: int, end: int) -> int:
        """Index private blocks from `position` on as far as one stack or one gap reaches; where that ends."""
        index = self._index
        at = index.find(position)
        if at < 0:
            end = index.gap_end(position, end)
            self._fill_gap(holding, position, end - position)
            return end
        at = index.cut_at(at, position)
        stack = index.stack(at)
        if position + stack[0].count > end:
            index.split(at, end)
        copy = Extent(position, stack[0].count, 1)
        stack.append(copy)
        holding.claim(copy)
        return position + copy.count

    def _fill_gap(self, holding: Holding, position: int, count: int) -> None:
        """Blocks that have no copy yet; they lengthen the holding's last extent if only it refers to that."""
        if holding.claims:
            last, claimed = holding.claims[-1]
            mine = last.refs == 1 and last.count == claimed and last.first + claimed == position
            if mine and self._index.single(last):
                last.count += count
                holding.claims[-1] = (last, last.count)
                return
        extent = Extent(position, count, 1)
        self._index.add(extent)
        holding.claim(extent)

    def _insert(self, holding: Holding, position: int, end: int) -> int:
        at = self._index.find(position)
        if at >= 0:
            extent = self._index.stack(at)[0]
            end = min(end, extent.first + extent.count)
            self._claim(holding, position, end)
            return end
        end = min(self._index.gap_end(position, end), position + self.free)
        if end > position:
            self.take(holding, end - position)
            self.commit(holding, ((position, end - position),), None)
        return end

    def _enqueue(self, extent: Extent) -> None:
        """The recent end of the queue; one extent with the last there if that only continues it."""
        extent.rest = None
        self.free += extent.count
        last = self._queue.older
        index = self._index
        follows = last is not self._queue and last.first == extent.first + extent.count
        if follows and index.single(extent) and index.single(last):
            last.unlink()
            index.discard(last)
            extent.count += last.count
        extent.link_before(self._queue)
