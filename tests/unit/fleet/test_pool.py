"""fleet.pool: equal to one block at a time in every hit, eviction and event; cheap in runs; refusals."""

import itertools
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentic_serving.capacity.runs import cut, from_ids, ids
from agentic_serving.errors import Bug
from agentic_serving.fleet.events import BlocksCleared, BlocksRemoved, BlocksStored, CacheEvent
from agentic_serving.fleet.pool import BlockPool, Holding
from tests.unit.fleet.naive import Held, NaivePool

CAPACITY = 24


def spelled_out(journal: Iterable[CacheEvent]) -> list[tuple[str, int]]:
    """Events block by block, in the order in which an engine would have had them."""
    found: list[tuple[str, int]] = []
    for event in journal:
        if isinstance(event, BlocksStored):
            found.extend(("stored", block) for block in ids(event.runs))
        elif isinstance(event, BlocksRemoved):
            for run in event.runs:
                found.extend(("removed", block) for block in reversed(list(ids((run,)))))
    return found


class PoolMachine(RuleBasedStateMachine):
    """Sequences over a tree of prompts come, grow and go in both pools."""

    @initialize(data=st.data())
    def make_prompts(self, data: st.DataObject) -> None:
        """A tree of chains. Names are shuffled in blocks, so that ids meet that are no neighbours in any prompt."""
        fresh = itertools.count()
        chains: list[list[int]] = [[]]
        for _ in range(data.draw(st.integers(2, 8), label="prompts")):
            parent = data.draw(st.sampled_from(chains), label="parent")
            keep = data.draw(st.integers(0, len(parent)), label="keep")
            more = data.draw(st.integers(1, 9), label="more")
            chains.append(parent[:keep] + [next(fresh) for _ in range(more)])
        names = list(range(next(fresh)))
        size = data.draw(st.sampled_from((1, 2, 5, len(names))), label="shuffle")
        pieces = data.draw(st.permutations([names[i : i + size] for i in range(0, len(names), size)]))
        rename = dict(enumerate(itertools.chain.from_iterable(pieces)))
        self.chains = [[rename[name] for name in chain] for chain in chains[1:]]
        self.pool, self.naive = BlockPool(CAPACITY), NaivePool(CAPACITY)
        self.pool.journal = []
        self.live: list[tuple[list[int], Holding, Held]] = []

    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        chain = data.draw(st.sampled_from(self.chains), label="chain")
        limit = data.draw(st.integers(0, len(chain)), label="limit")
        hits, idle = self.pool.match(from_ids(chain), limit)
        assert (hits, idle) == self.naive.match(chain, limit)
        holding, held = Holding(), Held()
        self.pool.acquire(holding, cut(from_ids(chain), 0, hits))
        self.naive.acquire(held, chain[:hits])
        self.live.append((chain, holding, held))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), wanted=st.integers(1, 8), hold_back=st.integers(0, 3))
    def grow(self, data: st.DataObject, wanted: int, hold_back: int) -> None:
        """New blocks, all but the last few of them full at once."""
        chain, holding, held = data.draw(st.sampled_from(self.live))
        count = min(wanted, self.naive.free)
        self.pool.take(holding, count)
        self.naive.take(held, count)
        full = min(len(chain), max(held.hashed, len(held.blocks) - hold_back))
        parent = chain[held.hashed - 1] if held.hashed else None
        self.pool.commit(holding, from_ids(chain[held.hashed : full]), parent)
        self.naive.commit(held, chain[held.hashed : full])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.live) - 1))
        _, holding, held = self.live.pop(at)
        self.pool.release(holding)
        self.naive.release(held)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.pool.check([holding for _, holding, _ in self.live])
        assert self.pool.free == self.naive.free
        queue = [block for run in self.pool.queue() for block in reversed(list(ids((run,))))]
        assert queue == [block.name for block in self.naive.queue if block.name is not None]
        copies: Counter[int] = Counter()
        for first, count, _ in self.pool.extents():
            copies.update(range(first, first + count))
        assert copies == {name: len(blocks) for name, blocks in self.naive.copies.items()}
        assert self.pool.journal is not None
        assert spelled_out(self.pool.journal) == self.naive.journal


PoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12)), max_size=30))
def test_a_tier_holds_the_most_recent_chains_and_nothing_twice(stores: list[tuple[int, int]]) -> None:
    pool = BlockPool(20)
    for first, count in stores:
        pool.insert(((first * 100, count),))
        pool.check([])
        assert pool.match(((first * 100, count),), count)[0] == count
    copies = Counter(block for first, count, _ in pool.extents() for block in range(first, first + count))
    assert all(n == 1 for n in copies.values())


def test_a_chain_longer_than_the_tier_keeps_its_beginning() -> None:
    pool = BlockPool(5)
    pool.insert(((0, 3), (50, 9)))
    assert pool.match(((0, 3), (50, 9)), 12) == (5, 5)


def test_a_conversation_of_many_turns_stays_one_extent() -> None:
    """What makes long prompts cheap: the cost of a turn does not grow with the number of turns before it."""
    pool = BlockPool(10_000)
    for turn in range(1, 101):
        holding = Holding()
        hits, _ = pool.match(((0, 50 * turn),), 50 * turn)
        pool.acquire(holding, ((0, hits),) if hits else ())
        pool.take(holding, 50 * turn - hits)
        pool.commit(holding, ((hits, 50 * turn - hits),), None)
        pool.release(holding)
    assert pool.extents() == [(0, 5000, 0)]


def test_more_than_is_free_is_refused_and_changes_nothing() -> None:
    pool, holding = BlockPool(4), Holding()
    with pytest.raises(Bug, match="5 blocks wanted, 4 free"):
        pool.take(holding, 5)
    pool.check([holding])
    assert pool.free == 4


def test_the_cache_is_dropped_only_while_nobody_uses_it() -> None:
    pool, holding = BlockPool(4), Holding()
    pool.insert(((0, 2),))
    pool.journal = []
    pool.acquire(holding, ((0, 1),))
    assert not pool.reset()
    assert pool.match(((0, 2),), 2) == (2, 1)
    pool.release(holding)
    assert pool.reset()
    assert pool.match(((0, 2),), 2) == (0, 0)
    assert pool.journal == [BlocksCleared()]
    pool.check([])


def test_check_finds_a_leak() -> None:
    pool, holding = BlockPool(4), Holding()
    pool.take(holding, 2)
    with pytest.raises(Bug, match="4"):
        pool.check([])
