"""Tiers below the GPU, and the links to them: what is there, when it arrives, what is forgotten.

A tier is asked in the order of the replica's list; each continues the prefix where the one before ended.
Simplified against LMCache and vLLM's native offloading: chunks are whole at lookup and when stored, but are evicted
block by block; a read does not slow down a write; what is being read cannot be evicted from under the reader.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal, Protocol

from agentic_serving.capacity.runs import Runs, blocks, cut
from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.events import CacheEvent
from agentic_serving.fleet.pool import BlockPool
from agentic_serving.fleet.types import Source

__all__ = ["BlockLink", "Link", "MemoryTier", "StoresOn", "Tier", "TierConfig"]

#: When a replica writes into a tier: as blocks are computed (vLLM's native offloading), when a request finishes
#: (LMCache's server), or when the GPU forgets a block (a victim cache).
StoresOn = Literal["computed", "finish", "evict"]


class Tier(Protocol):
    """A place that keeps KV blocks. One object given to several replicas is one shared tier."""

    @property
    def source(self) -> Source: ...

    @property
    def stores_on(self) -> StoresOn: ...

    @property
    def prompt_only(self) -> bool:
        """Whether blocks that reach into the answer are not stored."""

    def match(self, runs: Runs, start: int, now_s: float) -> int:
        """How many blocks of the chain from position `start` on it has, without a gap."""

    def load(self, runs: Runs, start: int, stop: int, now_s: float) -> float:
        """Read positions `start` to `stop`, which `match` has just found; when they have arrived."""

    def store(self, runs: Runs, now_s: float) -> None:
        """Write a chain from its beginning; with `evict`, the runs that the GPU has forgotten."""


class Link:
    """A serial connection: one transfer after the other, each `latency_s` and its bytes at `bytes_per_s`.

    Raises:
        InvalidInput: the rate is not positive or the latency is negative.
    """

    def __init__(self, bytes_per_s: float, latency_s: float = 0.0) -> None:
        if bytes_per_s <= 0 or latency_s < 0:
            raise InvalidInput("bytes_per_s", "must be positive, and latency_s not negative")
        self.bytes_per_s = bytes_per_s
        self.latency_s = latency_s
        self.free_s = 0.0  # when the last transfer ends
        self.sent_bytes = 0

    def transfer(self, n_bytes: int, now_s: float) -> float:
        """Queue a transfer; when it is done."""
        self.free_s = max(self.free_s, now_s) + self.latency_s + n_bytes / self.bytes_per_s
        self.sent_bytes += n_bytes
        return self.free_s


@dataclass(frozen=True, slots=True)
class BlockLink:
    """The way from prefill replicas into a decode replica, which carries KV of this size."""

    link: Link
    block_bytes: int

    def transfer(self, n_blocks: int, now_s: float) -> float:
        return self.link.transfer(n_blocks * self.block_bytes, now_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierConfig:
    """What a memory tier is like.

    Raises:
        InvalidInput: a size is below 1.
    """

    source: Source
    capacity_blocks: int
    block_bytes: int
    chunk_blocks: int = 1  # blocks of the engine per chunk of the tier: LMCache's chunks have 256 tokens
    stores_on: StoresOn = "finish"
    prompt_only: bool = True

    def __post_init__(self) -> None:
        for name in ("capacity_blocks", "block_bytes", "chunk_blocks"):
            if getattr(self, name) < 1:
                raise InvalidInput(name, "must be at least 1")


class MemoryTier:
    """A least-recently-used tier behind two links. Blocks can be read once their write has arrived."""

    def __init__(self, config: TierConfig, *, read: Link, write: Link) -> None:
        self.config = config
        self.read = read
        self.write = write
        self._pool = BlockPool(config.capacity_blocks, medium="CPU" if config.source == "host" else "STORAGE")
        self._writing: deque[tuple[float, Runs]] = deque()  # (arrives at, chain), in order

    @property
    def source(self) -> Source:
        return self.config.source

    @property
    def stores_on(self) -> StoresOn:
        return self.config.stores_on

    @property
    def prompt_only(self) -> bool:
        return self.config.prompt_only

    @property
    def used_blocks(self) -> int:
        return sum(count for _, count, _ in self._pool.extents())

    def record(self, journal: list[CacheEvent] | None) -> None:
        """Append every change to this list from now on."""
        self._pool.journal = journal

    def match(self, runs: Runs, start: int, now_s: float) -> int:
        self._settle(now_s)
        chunk = self.config.chunk_blocks
        first = start - start % chunk
        found, _ = self._pool.match(cut(runs, first, blocks(runs)), blocks(runs))
        return max(0, first + found - found % chunk - start)

    def load(self, runs: Runs, start: int, stop: int, now_s: float) -> float:
        self._pool.touch(cut(runs, 0, stop))
        return self.read.transfer((stop - start) * self.config.block_bytes, now_s)

    def store(self, runs: Runs, now_s: float) -> None:
        self._settle(now_s)
        if self.config.stores_on != "evict":
            total = blocks(runs)
            runs = cut(runs, 0, total - total % self.config.chunk_blocks)
        there, _ = self._pool.match(runs, blocks(runs))
        missing = blocks(runs) - there
        if not missing:
            self._pool.touch(runs)
            return
        self._writing.append((self.write.transfer(missing * self.config.block_bytes, now_s), runs))

    def check(self) -> None:
        """Raises: Bug: an invariant of the pool does not hold."""
        self._pool.check([])

    def _settle(self, now_s: float) -> None:
        while self._writing and self._writing[0][0] <= now_s:
            self._pool.insert(self._writing.popleft()[1])
