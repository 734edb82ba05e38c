"""What goes into a replica and what comes out of it: plain values. Times are seconds on the host's clock.

What comes out of every step is a named tuple: a frozen dataclass takes several times as long to make.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from agentic_serving.capacity.runs import Runs, check_runs
from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.events import BlocksCleared, BlocksRemoved, BlocksStored, CacheEvent

__all__ = [
    "Admitted",
    "BlocksCleared",
    "BlocksRemoved",
    "BlocksStored",
    "CacheEvent",
    "Counters",
    "Finished",
    "Limits",
    "Outcome",
    "Request",
    "Source",
    "Stats",
    "Step",
    "Usage",
]

#: Where a cached prompt token came from. vLLM's label names differ for one: local is `device` there.
Source = Literal["local", "host", "disk", "shared", "p2p"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """An engine's scheduler and cache settings, with vLLM's names and defaults where it has fixed ones.

    Raises:
        InvalidInput: a setting is out of range.
    """

    n_blocks: int  # vLLM's num_gpu_blocks; one of them is its null block and never used
    block_size: int = 16  # tokens
    max_batched_tokens: int = 8192  # per step
    max_seqs: int = 256  # running at the same time
    policy: Literal["fcfs", "priority"] = "fcfs"
    long_prefill_threshold: int = 0  # most prompt tokens of one request per step; 0: no limit of its own
    prefix_caching: bool = True
    #: A request starts only if its whole prompt fits, not just its first chunk (`scheduler_reserve_full_isl`).
    reserve_full_prompt: bool = True
    watermark: float = 0.0  # share of blocks that starting a request must leave free while others run

    def __post_init__(self) -> None:
        for name, least in (("n_blocks", 2), ("block_size", 1), ("max_batched_tokens", 1), ("max_seqs", 1)):
            if getattr(self, name) < least:
                raise InvalidInput(name, f"must be at least {least}")
        if self.long_prefill_threshold < 0 or not 0 <= self.watermark < 1:
            raise InvalidInput("watermark", "must be in [0, 1), and long_prefill_threshold not negative")

    @property
    def usable_blocks(self) -> int:
        return self.n_blocks - 1

    @property
    def usable_tokens(self) -> int:
        return self.usable_blocks * self.block_size

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One model call.

    Raises:
        InvalidInput: a count is out of range, or the runs are not a prefix chain.
    """

    id: str
    #: Ids of the full blocks from the first token on. They may reach into the answer, whose blocks the next turn then
    #: hits; blocks beyond them are never hit.
    runs: Runs
    prompt_tokens: int
    output_tokens: int  # how many it will produce; a host that does not know aborts
    priority: int = 0  # lower runs first; only with policy "priority"
    remote_tokens: int = 0  # P/D, decode side: prompt tokens whose KV can be read from a prefill replica
    hold_kv: bool = False  # P/D, prefill side: keep the blocks after the end, until `release`

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise InvalidInput("prompt_tokens", "and output_tokens must be at least 1")
        if not 0 <= self.remote_tokens <= self.prompt_tokens:
            raise InvalidInput("remote_tokens", "must be between 0 and prompt_tokens")
        check_runs(self.runs, "runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a finished request is charged. A prompt that is cached to its last token computes that one again."""

    prompt_tokens: int
    output_tokens: int
    cached: Mapping[Source, int]  # prompt tokens by where they came from; first scheduling only

    @property
    def cached_tokens(self) -> int:
        return sum(self.cached.values())

    @property
    def computed_tokens(self) -> int:
        return self.prompt_tokens - self.cached_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One request's end."""

    id: str
    usage: Usage
    arrived_s: float
    scheduled_s: float  # start of the first step it was in
    first_token_s: float
    finished_s: float
    preemptions: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request left the queue for the first time."""

    id: str
    at_s: float
    cached: Mapping[Source, int]


class Step(NamedTuple):
    """One forward pass, or `n_steps` that are alike."""

    start_s: float
    end_s: float
    n_steps: int
    prefill_tokens: int  # of one pass
    decode_tokens: int  # of one pass
    scheduled: tuple[tuple[str, int], ...]  # (request id, tokens) of one pass


class Outcome(NamedTuple):
    """What a step brought. Tokens count for the answer; a request that was aborted during the step has none."""

    end_s: float
    tokens: tuple[tuple[str, int], ...]
    finished: tuple[Finished, ...]
    preempted: tuple[str, ...]
    admitted: tuple[Admitted, ...]
    events: tuple[CacheEvent, ...]  # empty unless the replica records them


class Stats(NamedTuple):
    """Gauges, counted as vLLM counts them."""

    running: int
    waiting: int  # with those whose KV is being loaded
    fetching: int
    free_blocks: int
    usable_blocks: int

    @property
    def kv_usage(self) -> float:
        """0 to 1, as `vllm:kv_cache_usage_perc`: cached blocks that nobody uses are free."""
        return 1 - self.free_blocks / self.usable_blocks


@dataclass(slots=True)
class Counters:
    """Totals since the start. Prompts count when they are first scheduled, resumed ones not again."""

    prefix_queries: int = 0  # tokens asked of the local cache
    prefix_hits: int = 0
    external_queries: int = 0  # tokens asked of tiers and prefill replicas
    external_hits: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    computed_tokens: int = (
        0  # all tokens through the model: prompts, answers, and both again after preemption
    )
    output_tokens: int = 0
    finished: int = 0
    cached: Counter[Source] = field(default_factory=Counter)  # prompt tokens by source
