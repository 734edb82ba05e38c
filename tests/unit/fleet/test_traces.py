"""The prefix cache on recorded traffic: LRU and its limit (Belady) against published figures, and its cost.

Set AGENTIC_TRACES to a folder with the full traces to compare with the figures; without it the sample in
tests/traces is compared with a block-at-a-time LRU, so that the run-based pool is checked on real prompts anywhere.
"""

import gzip
import heapq
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentic_serving.capacity.runs import Runs, blocks, cut, from_ids, ids
from agentic_serving.fleet.pool import BlockPool, Holding
from tests.unit.fleet.naive import Held, NaivePool

SAMPLE = Path(__file__).parents[2] / "traces"
FULL = os.environ.get("AGENTIC_TRACES", "")
needs_full = pytest.mark.skipif(not FULL, reason="AGENTIC_TRACES is not set")


def lines(path: Path) -> Iterator[dict[str, object]]:
    content = path.read_bytes()
    for line in (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines():
        yield json.loads(line)


def mooncake(path: Path) -> list[Runs]:
    return [from_ids(line["hash_ids"]) for line in lines(path) if isinstance(line["hash_ids"], list)]


def claude_code(path: Path) -> list[Runs]:
    """All prompts' full blocks in the order of time, every session starting at 0; ids made global."""
    prompts: list[tuple[float, int, Runs]] = []
    for rank, session in enumerate(lines(path)):
        requests = session["requests"]
        assert isinstance(requests, list)
        for request in requests:
            if request["type"] == "subagent":
                continue
            runs = tuple((rank * 10_000_000 + first, count) for first, count in request["hash_runs"])
            prompts.append((request["t"], rank, cut(runs, 0, request["in"] // 64)))
    return [runs for _, _, runs in sorted(prompts, key=lambda prompt: prompt[:2])]


def serve(pool: BlockPool, runs: Runs) -> int:
    """One prompt alone from start to end; the blocks it hit."""
    holding, total = Holding(), blocks(runs)
    hits, _ = pool.match(runs, total)
    pool.acquire(holding, cut(runs, 0, hits))
    pool.take(holding, total - hits)
    pool.commit(holding, cut(runs, hits, total), None)
    pool.release(holding)
    return hits


def lru(prompts: list[Runs], capacity: int) -> float:
    pool = BlockPool(capacity)
    return sum(serve(pool, runs) for runs in prompts) / sum(blocks(runs) for runs in prompts)


def belady(prompts: list[Runs], capacity: int) -> float:
    """The most hits that any eviction could have had: of what is not in use, forget what is needed last."""
    chains = [list(ids(runs)) for runs in prompts]
    upcoming: dict[int, list[int]] = {}
    for at in range(len(chains) - 1, -1, -1):
        for block in chains[at]:
            upcoming.setdefault(block, []).append(at)
    cached: dict[int, int] = {}  # block → its next use
    farthest: list[tuple[int, int]] = []  # (-next use, block), entries may be stale
    hits = 0
    for chain in chains:
        for block in chain:
            hits += block in cached
            upcoming[block].pop()
            following = upcoming[block][-1] if upcoming[block] else len(chains)
            cached[block] = following
            heapq.heappush(farthest, (-following, block))
        while len(cached) > capacity:
            following, block = heapq.heappop(farthest)
            if cached.get(block) == -following:
                del cached[block]
    return hits / sum(map(len, chains))


@pytest.mark.parametrize("name", ["mooncake.jsonl", "claude_code.jsonl"])
@pytest.mark.parametrize("share", [0.1, 0.4, 2.0])
def test_runs_hit_and_evict_exactly_what_blocks_do_on_real_prompts(name: str, share: float) -> None:
    reader = mooncake if name == "mooncake.jsonl" else claude_code
    prompts = reader(SAMPLE / name)[:150]
    distinct = len({block for runs in prompts for block in ids(runs)})
    capacity = max(int(share * distinct), max(map(blocks, prompts)))
    pool, naive = BlockPool(capacity), NaivePool(capacity)
    for runs in prompts:
        chain, held = list(ids(runs)), Held()
        hits, _ = naive.match(chain, len(chain))
        naive.acquire(held, chain[:hits])
        naive.take(held, len(chain) - hits)
        naive.commit(held, chain[hits:])
        naive.release(held)
        assert serve(pool, runs) == hits
    pool.check([])
    queue = [block for run in pool.queue() for block in reversed(list(ids((run,))))]
    assert queue == [block.name for block in naive.queue if block.name is not None]


@pytest.mark.parametrize("name", ["mooncake.jsonl", "claude_code.jsonl"])
def test_no_eviction_order_beats_belady_s(name: str) -> None:
    prompts = (mooncake if name == "mooncake.jsonl" else claude_code)(SAMPLE / name)
    longest = max(map(blocks, prompts))
    for capacity in (longest, 2 * longest, 8 * longest):
        assert lru(prompts, capacity) <= belady(prompts, capacity) + 1e-12


#: (trace, blocks, LRU, Belady): Mooncake's trace of 12,031 conversations and of 3,993 synthetic requests, replayed
#: one prompt after the other in blocks of 512 tokens. Our own figures for these traces, of an independent program.
FIGURES = [
    ("mooncake_conversation", 1_000, 0.045, 0.191),
    ("mooncake_conversation", 5_860, 0.136, 0.353),
    ("mooncake_conversation", 10_000, 0.212, 0.366),
    ("mooncake_conversation", 30_000, 0.326, 0.366),
    ("mooncake_conversation", 10**9, 0.366, 0.366),
    ("mooncake_synthetic", 5_860, 0.309, 0.550),
    ("mooncake_synthetic", 10_000, 0.424, 0.618),
    ("mooncake_synthetic", 30_000, 0.624, 0.640),
    ("mooncake_synthetic", 10**9, 0.640, 0.640),
]


@needs_full
@pytest.mark.parametrize(("name", "capacity", "lru_share", "belady_share"), FIGURES)
def test_hit_rates_are_the_published_ones(
    name: str, capacity: int, lru_share: float, belady_share: float
) -> None:
    prompts = mooncake(Path(FULL) / f"{name}.jsonl.gz")
    assert lru(prompts, capacity) == pytest.approx(lru_share, abs=0.01)
    assert belady(prompts, capacity) == pytest.approx(belady_share, abs=0.01)
