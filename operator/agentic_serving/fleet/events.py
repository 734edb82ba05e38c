"""What happened to cached blocks, in the order it happened: the content of an engine's KV events."""

from dataclasses import dataclass

from agentic_serving.capacity.runs import Runs

__all__ = ["BlocksCleared", "BlocksRemoved", "BlocksStored", "CacheEvent"]


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Blocks became full and can be hit. A second copy of a block is stored again, as in vLLM."""

    runs: Runs
    parent: int | None  # id of the block before the first; None: the first block of a prompt
    medium: str = "GPU"


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    """One copy of each of these blocks is gone. Within a run the last id went first."""

    runs: Runs
    medium: str = "GPU"


@dataclass(frozen=True, slots=True)
class BlocksCleared:
    """The whole prefix cache was dropped."""


CacheEvent = BlocksStored | BlocksRemoved | BlocksCleared
