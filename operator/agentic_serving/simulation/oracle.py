"""What the best eviction could have had: Belady's rule on the order in which a simulation's turns really started.

Per replica, prompts in the order in which they were first scheduled. What a turn that has not ended uses is never evicted; of
the rest, what is needed last goes first, and of that what lies deepest in its chain. Blocks that have always been used
together are one segment, so that the cost grows with the changes of prompts and not with their length. Belady's rule (1966) is
exact for blocks of one size in one tier; of a chain, a parent is needed no later than its child.

Where the engine takes its room bit by bit, the oracle gets the benefit: a prompt takes its room at its first token, an answer
at its end, blocks that no later prompt repeats take none, and where pinned blocks alone exceed the cache nothing happens.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from agentic_serving.capacity.runs import Runs
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation.records import TurnRecord

__all__ = ["Bound", "belady"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The most prompt tokens that could have been cached on that order."""

    cached_tokens: int
    prompt_tokens: int
    repeated_tokens: int

    @property
    def recompute_share(self) -> float:
        """As in a summary: of the prompt tokens that had been computed before."""
        lost = max(0, self.repeated_tokens - self.cached_tokens)
        return lost / self.repeated_tokens if self.repeated_tokens else 0.0


def belady(turns: Iterable[TurnRecord], limits: Limits) -> Bound:
    """The bound of one simulation: of all its turns, none left out by a warm-up."""
    by_replica: dict[int, list[TurnRecord]] = defaultdict(list)
    for turn in turns:
        by_replica[turn.replica].append(turn)
    found = [_Cache(sorted(some, key=_start), limits).serve() for some in by_replica.values()]
    known = [turn for some in by_replica.values() for turn in some]
    return Bound(
        cached_tokens=sum(found),
        prompt_tokens=sum(turn.prompt_tokens for turn in known),
        repeated_tokens=sum(turn.repeated_tokens for turn in known),
    )


def _start(turn: TurnRecord) -> tuple[float, float, str]:
    return turn.scheduled_s, turn.placed_s, turn.id


class _Cache:
    """One replica's cache, in segments."""

    def __init__(self, turns: Sequence[TurnRecord], limits: Limits) -> None:
        self._turns = turns
        self._size = limits.block_size
        self._room = limits.usable_blocks
        edges = sorted({edge for turn in turns for first, n in turn.runs for edge in (first, first + n)})
        self._edges = edges
        self._chains = [self._segments(turn.runs) for turn in turns]
        self._uses: dict[int, list[int]] = defaultdict(list)  # places of the turns that use it, last first
        for at in range(len(turns) - 1, -1, -1):
            for segment in self._chains[at]:
                self._uses[segment].append(at)
        self._held: dict[int, int] = {}  # segment → its first blocks that are there
        self._pins: dict[int, int] = defaultdict(int)
        self._unpaid: dict[int, tuple[int, int]] = {}  # turn → blocks of its prompt, of its answer
        self._evictable: list[tuple[float, int, int]] = []  # (-next use, -depth, segment); may be stale
        self._events: list[tuple[float, bool, int]] = []  # (when, it is the end, turn)

    def serve(self) -> int:
        """Run all turns; the prompt tokens that were there."""
        return sum(self._start(at) for at in range(len(self._turns)))

    def _segments(self, runs: Runs) -> list[int]:
        found: list[int] = []
        for first, n in runs:
            found.extend(range(bisect_left(self._edges, first), bisect_left(self._edges, first + n)))
        return found

    def _blocks(self, segment: int) -> int:
        return self._edges[segment + 1] - self._edges[segment]

    def _start(self, at: int) -> int:
        turn, chain = self._turns[at], self._chains[at]
        while self._events and self._events[0][0] <= turn.scheduled_s:
            _, ending, earlier = heappop(self._events)
            self._end(earlier) if ending else self._pay(self._unpaid[earlier][0])
        cached = min(self._hits(chain) * self._size, turn.prompt_tokens - 1)
        prompt = turn.prompt_tokens // self._size
        position, missing = 0, [0, 0]
        for segment in chain:
            self._pins[segment] += 1
            self._uses[segment].pop()
            missing[position >= prompt] += self._blocks(segment) - self._held.get(segment, 0)
            self._held[segment] = self._blocks(segment)
            position += self._blocks(segment)
        self._unpaid[at] = (missing[0], missing[1])
        heappush(self._events, (turn.first_token_s, False, at))
        heappush(self._events, (turn.finished_s, True, at))
        return cached

    def _pay(self, n_blocks: int) -> None:
        self._room -= n_blocks
        self._evict()

    def _hits(self, chain: Sequence[int]) -> int:
        """Blocks from the first on, without a gap."""
        found = 0
        for segment in chain:
            there = self._held.get(segment, 0)
            found += there
            if there < self._blocks(segment):
                break
        return found

    def _end(self, at: int) -> None:
        for depth, segment in enumerate(self._chains[at]):
            self._pins[segment] -= 1
            if not self._pins[segment]:
                heappush(self._evictable, (-self._next(segment), -depth, segment))
        self._pay(self._unpaid.pop(at)[1])

    def _next(self, segment: int) -> float:
        uses = self._uses[segment]
        return uses[-1] if uses else inf

    def _evict(self) -> None:
        while self._room < 0 and self._evictable:
            next_use, depth, segment = heappop(self._evictable)
            held = self._held.get(segment, 0)
            if self._pins[segment] or not held or -next_use != self._next(segment):
                continue  # stale
            gone = min(held, -self._room)
            self._room += gone
            self._held[segment] = held - gone
            if held > gone:
                heappush(self._evictable, (next_use, depth, segment))
