"""The cache rules of vLLM written out one block at a time, as slow and as plain as possible: what runs must equal.

After `vllm/v1/core/block_pool.py` (0.24 and later): `get_cached_block` takes the oldest copy, `touch` takes a block
out of the free queue, `get_new_blocks` evicts from its front, `free_blocks` puts blocks with a hash to the end and
those without to the front, in the order given, which is the last block of a sequence first.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class Block:
    name: int | None = None
    refs: int = 0


@dataclass
class Held:
    """One sequence's blocks, in order."""

    blocks: list[Block] = field(default_factory=list)
    hashed: int = 0


class NaivePool:
    def __init__(self, capacity: int) -> None:
        #: The keys are a queue whose front is evicted next, with removal from the middle.
        self.queue = OrderedDict.fromkeys(Block() for _ in range(capacity))
        self.copies: dict[int, list[Block]] = {}
        self.journal: list[tuple[str, int]] = []

    @property
    def free(self) -> int:
        return len(self.queue)

    def match(self, chain: Sequence[int], limit: int) -> tuple[int, int]:
        hits: list[Block] = []
        for name in chain[:limit]:
            if name not in self.copies:
                break
            hits.append(self.copies[name][0])
        return len(hits), sum(block.refs == 0 for block in hits)

    def acquire(self, held: Held, chain: Sequence[int]) -> None:
        for name in chain:
            block = self.copies[name][0]
            if block.refs == 0:
                del self.queue[block]
            block.refs += 1
            held.blocks.append(block)
            held.hashed += 1

    def take(self, held: Held, count: int) -> None:
        for _ in range(count):
            block, _ = self.queue.popitem(last=False)
            if block.name is not None:
                self.copies[block.name].remove(block)
                if not self.copies[block.name]:
                    del self.copies[block.name]
                self.journal.append(("removed", block.name))
            block.name, block.refs = None, 1
            held.blocks.append(block)

    def commit(self, held: Held, chain: Sequence[int]) -> None:
        for name in chain:
            block = held.blocks[held.hashed]
            block.name = name
            self.copies.setdefault(name, []).append(block)
            self.journal.append(("stored", name))
            held.hashed += 1

    def release(self, held: Held) -> None:
        for block in reversed(held.blocks):
            block.refs -= 1
            if block.refs == 0:
                self.queue[block] = None
                if block.name is None:
                    self.queue.move_to_end(block, last=False)
        held.blocks, held.hashed = [], 0
