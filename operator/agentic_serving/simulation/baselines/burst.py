"""Joint placement of prompts that arrive together and begin alike, before llm-d's affinity filter.

Source: `burst-prefix-cache-producer` of github.com/llm-d/llm-d-router at ebab687, with its defaults; the sample
configuration gives its match more weight than load, so that a replica it chose wins where the filter leaves it.
"""

# ruff: noqa: ARG002 - every policy is called alike, whatever it looks at

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

from agentic_serving.capacity.runs import Runs, blocks, common_blocks, cut
from agentic_serving.simulation.baselines.prefix import AffinityFilter
from agentic_serving.simulation.views import Ended, ReplicaView, TurnView

__all__ = ["BurstPrefix"]

#: `defaultMaxPrefixBlocks` blocks of `defaultBlockSizeTokens`: what lies beyond does not count.
_MOST_TOKENS = 2048 * 64
#: `maxBatchSize`: what comes above that in one window is placed without.
_MOST_TURNS = 1000


class BurstPrefix:
    """Turns wait until their window is over, then go out together.

    Turns with identical prompts are one group, and a group goes to one replica whole; groups are spread over replicas
    by number of turns. With `shared_tokens`, turns that only begin alike count too: groups first, longer prompts
    first, each where the longest such beginning was placed in this window, unless that replica has its fair share of
    the window's turns.

    Attributes of llm-d's: `windowDurationMs` 100; `minColocateBlocks` 0 (`shared_tokens`: in tokens); `maxPerReplica`
    none; `balanceBy` requests.
    """

    def __init__(self, *, prefill_tokens_per_s: float, window_s: float = 0.1, shared_tokens: int = 0) -> None:
        self._placement = _Preferring(prefill_tokens_per_s=prefill_tokens_per_s)
        self._window_s = window_s
        self._shared_tokens = shared_tokens
        self._batch: dict[str, TurnView] = {}
        self._seals_s: float | None = None
        self._assigned: dict[str, int | None] = {}  # turns whose window is over

    def ready(self, replicas: Sequence[ReplicaView], now_s: float) -> bool:
        return any(one.ready for one in replicas)

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        for turn in waiting:
            if turn.id in self._batch or turn.id in self._assigned:
                continue
            if len(self._batch) >= _MOST_TURNS:
                self._assigned[turn.id] = None
                continue
            if self._seals_s is None:
                self._seals_s = now_s + self._window_s
            self._batch[turn.id] = turn
        return waiting

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        open_ = [one for one in replicas if one.ready]
        if not open_:
            return None
        if self._seals_s is not None and now_s >= self._seals_s:
            self._seal(open_)
        if turn.id not in self._assigned:
            return None
        self._placement.preferred = self._assigned.pop(turn.id)
        return self._placement.choose(turn, open_, now_s).index

    def on_finish(self, ended: Ended) -> None:
        self._placement.on_finish(ended)

    def on_fail(self, turn: TurnView, replica: int | None, now_s: float) -> None:
        self._batch.pop(turn.id, None)
        self._assigned.pop(turn.id, None)
        if replica is not None:
            self._placement.on_fail(turn, replica)

    def on_end(self, program: str, now_s: float) -> None:
        self._placement.on_end(program)

    def wake_s(self, now_s: float) -> float | None:
        return self._seals_s

    def _seal(self, replicas: Sequence[ReplicaView]) -> None:
        turns, self._batch, self._seals_s = self._batch, {}, None
        size = replicas[0].block_size
        self._assigned |= dict.fromkeys(turns)
        self._assigned |= assign(turns.values(), replicas, -(-self._shared_tokens // size), size)


class _Preferring(AffinityFilter):
    """Keeps only the preferred replica where the filter alone would keep it, or none.

    As with prefixes of its own, the filter gives it up where it would answer much later than another.
    """

    preferred: int | None = None

    def sticky(
        self, turn: TurnView, open_: Sequence[ReplicaView], shares: dict[int, float]
    ) -> list[ReplicaView]:
        kept = super().sticky(turn, open_, shares)
        return [one for one in kept or open_ if one.index == self.preferred] or kept


@dataclass(slots=True)
class _Layout:
    """What the window's turns have been given so far."""

    replicas: Sequence[ReplicaView]
    share: int  # a replica's fair part of the window's turns
    turns: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    prompts: dict[int, list[Runs]] = field(default_factory=lambda: defaultdict(list))

    def put(self, prompt: Runs, n_turns: int, least: int) -> int:
        """The replica for so many turns with this prompt."""
        near = [
            (found, one)
            for one in self.replicas
            if least and self.turns[one.index] < self.share and (found := self._match(prompt, one)) >= least
        ]
        best = max((found for found, _ in near), default=0)
        alike = [one for found, one in near if found == best]
        chosen = min(alike or self.replicas, key=self._rank).index
        self.turns[chosen] += n_turns
        self.prompts[chosen].append(prompt)
        return chosen

    def _match(self, prompt: Runs, replica: ReplicaView) -> int:
        return max((common_blocks(prompt, one) for one in self.prompts[replica.index]), default=0)

    def _rank(self, replica: ReplicaView) -> tuple[int, int, int]:
        return (self.turns[replica.index], replica.stats.running, replica.index)


def assign(
    turns: Iterable[TurnView], replicas: Sequence[ReplicaView], least: int, block_size: int
) -> dict[str, int]:
    """Replicas for those turns of a window that have something in common, by turn.

    Args:
        least: blocks from which on a common beginning counts; 0: only identical prompts.
    """
    groups: dict[Runs, list[str]] = defaultdict(list)
    for turn in turns:
        if turn.runs:
            groups[cut(turn.runs, 0, _MOST_TOKENS // block_size)].append(turn.id)
    beginnings: dict[Runs, int] = defaultdict(int)
    for prompt, members in groups.items():
        if least and blocks(prompt) >= least:
            beginnings[cut(prompt, 0, least)] += len(members)
    units = [
        prompt
        for prompt, members in groups.items()
        if len(members) > 1 or (least and beginnings.get(cut(prompt, 0, least), 0) > 1)
    ]
    units.sort(key=lambda prompt: (len(groups[prompt]) == 1, -blocks(prompt)))
    layout = _Layout(replicas, ceil(sum(len(groups[prompt]) for prompt in units) / len(replicas)))
    placed: dict[str, int] = {}
    for prompt in units:
        placed |= dict.fromkeys(groups[prompt], layout.put(prompt, len(groups[prompt]), least))
    return placed
