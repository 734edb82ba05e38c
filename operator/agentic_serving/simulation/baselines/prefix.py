"""Scorers that know which replica has which prefix, as llm-d's endpoint picker approximates it.

The index is `approx-prefix-cache-producer`'s: per replica an LRU of the blocks of prompts that were sent there, with
`autoTune` as large as the engine's cache. llm-d cuts prompts at 131,072 tokens (`maxPrefixTokensToMatch`) and hashes
blocks of 64 tokens or more; here all full blocks count. Source: github.com/llm-d/llm-d-router v0.10.0.
"""

# ruff: noqa: ARG002 - every policy is called alike, whatever it looks at

from collections.abc import Sequence
from random import Random

from agentic_serving.capacity.runs import Runs, blocks
from agentic_serving.fleet.pool import BlockPool
from agentic_serving.simulation.baselines.placements import Forgetful
from agentic_serving.simulation.views import Ended, ReplicaView, TurnView

__all__ = ["AffinityFilter", "PrefixIndex", "Scorers"]


class PrefixIndex:
    """Which blocks each replica probably has."""

    def __init__(self) -> None:
        self._seen: dict[int, BlockPool] = {}

    def shares(self, runs: Runs, replicas: Sequence[ReplicaView]) -> list[float]:
        """What each has of the prompt's full blocks; 0 of a prompt without any."""
        total = blocks(runs)
        pools = [self._seen.get(one.index) for one in replicas]
        return [pool.match(runs, total)[0] / total if pool is not None and total else 0.0 for pool in pools]

    def add(self, runs: Runs, replica: ReplicaView) -> None:
        """The prompt goes to this replica."""
        pool = self._seen.get(replica.index)
        if pool is None:
            pool = self._seen[replica.index] = BlockPool(replica.cache_tokens // replica.block_size)
        pool.insert(runs)


class Scorers(Forgetful):
    """Weighted sum of queue, KV-cache and prefix scores; the highest wins, ties by chance.

    Weights 2, 2, 3: the picker's defaults where no configuration is given (`loader/defaults.go`), and those of the
    agentic guide. queue-scorer: least to most waiting of the candidates, from 1 to 0, all 1 if equal.
    """

    def __init__(self, *, queue: float = 2.0, kv: float = 2.0, prefix: float = 3.0, seed: int = 0) -> None:
        self._weights = (queue, kv, prefix)
        self._index = PrefixIndex()
        self._random = Random(seed)  # noqa: S311 - ties, not secrets

    def choose(self, turn: TurnView, open_: Sequence[ReplicaView], now_s: float) -> ReplicaView:
        gauges = [one.stats for one in open_]
        waiting = [one.waiting for one in gauges]
        least, span = min(waiting), max(waiting) - min(waiting)
        queue, kv, prefix = self._weights
        scores = [
            queue * (1 - (one.waiting - least) / span if span else 1.0)
            + kv * (1 - one.kv_usage)
            + prefix * share
            for one, share in zip(gauges, self._index.shares(turn.runs, open_), strict=True)
        ]
        best = max(scores)
        found = self._random.choice([one for one, score in zip(open_, scores, strict=True) if score == best])
        self._index.add(turn.runs, found)
        return found


class AffinityFilter:
    """llm-d's newest agentic mix: `prefix-cache-affinity-filter`, then `token-load-scorer`.

    Replicas that have at least 80 % of the prompt are kept (`affinityThreshold`), unless the one of them with the least
    load would answer `maxTTFTPenaltyMs` (18 s) later than the least loaded of all; load is prompt tokens in flight that
    are not cached, over `peakPrefillThroughput`, which "must be calibrated per model and hardware". Of what is left the
    one with least load wins.
    """

    def __init__(
        self, *, prefill_tokens_per_s: float, threshold: float = 0.8, max_penalty_s: float = 18.0
    ) -> None:
        self._tokens_per_s = prefill_tokens_per_s
        self._threshold = threshold
        self._max_penalty_s = max_penalty_s
        self._index = PrefixIndex()
        self._load: dict[int, float] = {}  # uncached prompt tokens in flight, by replica
        self._charged: dict[str, float] = {}  # by turn

    def choose(self, turn: TurnView, open_: Sequence[ReplicaView], now_s: float) -> ReplicaView:
        of = self._index.shares(turn.runs, open_)
        shares = {one.index: share for one, share in zip(open_, of, strict=True)}
        sticky = self.sticky(turn, open_, shares)
        found = self._least(open_)
        if sticky:
            kept = self._least(sticky)
            later = self._load.get(kept.index, 0.0) - self._load.get(found.index, 0.0)
            if later <= self._max_penalty_s * self._tokens_per_s:
                found = kept
        charge = turn.prompt_tokens * (1 - shares[found.index])
        self._load[found.index] = self._load.get(found.index, 0.0) + charge
        self._charged[turn.id] = charge
        self._index.add(turn.runs, found)
        return found

    def sticky(
        self, turn: TurnView, open_: Sequence[ReplicaView], shares: dict[int, float]
    ) -> list[ReplicaView]:
        """Replicas that the filter keeps."""
        return [one for one in open_ if shares[one.index] >= self._threshold]

    def on_finish(self, ended: Ended) -> None:
        self._load[ended.replica] -= self._charged.pop(ended.turn.id)

    def on_fail(self, turn: TurnView, replica: int) -> None:
        self._load[replica] -= self._charged.pop(turn.id)

    def on_end(self, program: str) -> None:
        """The index forgets by itself."""

    def _least(self, replicas: Sequence[ReplicaView]) -> ReplicaView:
        return min(replicas, key=lambda one: (self._load.get(one.index, 0.0), one.turns, one.index))
