"""fleet.replica: fast-forward equals stepping; nothing is lost or stuck under any sequence of calls."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentic_serving.capacity.runs import cut, ids
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.replica import MANY_STEPS, Replica
from agentic_serving.fleet.tiers import BlockLink, Link, MemoryTier, TierConfig
from agentic_serving.fleet.types import Finished, Limits, Request

PROFILE = StepProfile(
    name="test",
    source="test",
    base_s=0.01,
    prefill_token_s=0.001,
    attention_s=1e-6,
    sequence_s=0.0005,
    context_token_s=1e-5,
)
SIZE = 4  # tokens per block


REQUESTS = st.lists(
    st.tuples(
        st.floats(0, 0.4),  # gap before it, s
        st.integers(1, 90),  # prompt
        st.integers(1, 40),  # answer
        st.integers(0, 3),  # which shared beginning
        st.integers(0, 12),  # blocks of it
        st.integers(0, 2),  # priority
    ),
    min_size=1,
    max_size=25,
)


def workload(
    drawn: list[tuple[float, int, int, int, int, int]], *, priority: bool
) -> list[tuple[float, Request]]:
    """Requests with common beginnings; no two answers have blocks in common."""
    found, now_s = [], 0.0
    for at, (gap_s, prompt, output, shared, depth, urgency) in enumerate(drawn):
        now_s += gap_s
        depth = min(depth, prompt // SIZE)
        chain = (*(((shared * 1000, depth),) if depth else ()), (10_000 + at * 100, 60))
        item = Request(
            id=str(at),
            runs=cut(chain, 0, (prompt + output) // SIZE),
            prompt_tokens=prompt,
            output_tokens=output,
            priority=urgency if priority else 0,
        )
        found.append((now_s, item))
    return found


def by_stepping(node: Replica, until_s: float) -> list[Finished]:
    """What `advance` does, one pass at a time."""
    finished: list[Finished] = []
    while True:
        if node.step is not None:
            if node.step.end_s > until_s:
                return finished
            finished.extend(node.end().finished)
        start_s = max(node._now_s, node.busy_until_s)
        if start_s >= until_s:
            return finished
        if node.begin(start_s) is None:
            wake_s = node.wake_s
            if wake_s is None or wake_s >= until_s:
                return finished
            node._now_s = wake_s


def eviction_order(node: Replica) -> list[int]:
    return [block for run in node._pool.queue() for block in reversed(list(ids((run,))))]


def tiers() -> tuple[MemoryTier, ...]:
    """Writes arrive at once: a write that arrives during a fast-forward is seen only at its end."""
    host = TierConfig(
        source="host", capacity_blocks=40, block_bytes=100, chunk_blocks=2, stores_on="computed"
    )
    shared = TierConfig(source="shared", capacity_blocks=80, block_bytes=100, chunk_blocks=4)
    return (
        MemoryTier(host, read=Link(50_000), write=Link(math.inf)),
        MemoryTier(shared, read=Link(10_000, 0.01), write=Link(math.inf)),
    )


@given(drawn=REQUESTS, priority=st.booleans(), tiered=st.booleans(), n_blocks=st.integers(34, 80))
@settings(max_examples=80, deadline=None)
def test_fast_forward_equals_stepping(
    drawn: list[tuple[float, int, int, int, int, int]], priority: bool, tiered: bool, n_blocks: int
) -> None:
    limits = Limits(
        n_blocks=n_blocks,
        block_size=SIZE,
        max_batched_tokens=32,
        max_seqs=4,
        policy="priority" if priority else "fcfs",
    )
    results = []
    for advance in (by_stepping, Replica.advance):
        node = Replica(limits, PROFILE, tiers=tiers() if tiered else ())
        finished: list[Finished] = []
        for at_s, item in workload(drawn, priority=priority):
            finished += advance(node, at_s)
            node.admit(item, at_s)
            node.check()
        finished += advance(node, 1e6)
        node.check()
        results.append(({end.id: end for end in finished}, node.counters, eviction_order(node)))
    (stepped, counters, queue), (skipped, skipped_counters, skipped_queue) = results
    assert len(stepped) == len(drawn), "every request ends"
    assert counters == skipped_counters
    assert queue == skipped_queue
    for name, end in stepped.items():
        assert skipped[name].usage == end.usage
        assert skipped[name].first_token_s == pytest.approx(end.first_token_s)
        assert skipped[name].finished_s == pytest.approx(end.finished_s)


@given(
    drawn=st.lists(
        st.tuples(
            st.integers(0, 200).map(lambda gap: gap / 64),  # gap before it, s
            st.integers(1, 300),  # prompt: up to 19 passes
            st.integers(1, 20),  # answer
            st.integers(0, 2),  # which shared beginning
            st.integers(0, 30),  # blocks of it
            st.integers(0, 0),
        ),
        min_size=1,
        max_size=8,
    ),
    after_s=st.integers(0, 128).map(lambda after: after / 64),
    tiered=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_passes_over_a_long_prompt_are_those_of_stepping_at_any_moment(
    drawn: list[tuple[float, int, int, int, int, int]], after_s: float, tiered: bool
) -> None:
    """Gauges, times and the cache after an abort in the middle. Powers of two: sums are exact, moments coincide."""
    limits = Limits(n_blocks=150, block_size=SIZE, max_batched_tokens=16, max_seqs=3)
    profile = StepProfile(
        name="exact",
        source="test",
        base_s=2**-6,
        prefill_token_s=2**-10,
        attention_s=2**-16,
        sequence_s=2**-9,
        context_token_s=2**-14,
    )
    seen = []
    for advance in (by_stepping, Replica.advance):
        node = Replica(limits, profile, tiers=tiers()[1:] if tiered else ())
        found: list[object] = []
        for at_s, item in workload(drawn, priority=False):
            found += advance(node, at_s)
            node.admit(item, at_s)
            moment_s = at_s + after_s
        found += advance(node, moment_s)
        gauges = node.stats(moment_s)
        found.append((gauges.running, gauges.waiting))
        if node.step is not None and node.step.prefill_tokens:
            found.append(gauges.free_blocks)
        found.append(node.abort(item.id, moment_s))
        node.check()
        found += advance(node, 1e6)
        seen.append((found, node.counters.prefix_hits, eviction_order(node)))
    assert seen[0] == seen[1]


class ReplicaMachine(RuleBasedStateMachine):
    """Any order of calls that a host may make."""

    @initialize(n_blocks=st.integers(12, 40), priority=st.booleans(), tiered=st.booleans())
    def make(self, n_blocks: int, priority: bool, tiered: bool) -> None:
        limits = Limits(
            n_blocks=n_blocks,
            block_size=SIZE,
            max_batched_tokens=16,
            max_seqs=3,
            policy="priority" if priority else "fcfs",
        )
        link = BlockLink(Link(5_000, 0.005), 100)
        self.node = Replica(limits, PROFILE, tiers=tiers() if tiered else (), link=link)
        self.made = 0
        self.live: set[str] = set()
        self.held: set[str] = set()
        self.now_s = 0.0

    @rule(
        prompt=st.integers(1, 40),
        output=st.integers(1, 12),
        shared=st.integers(0, 2),
        depth=st.integers(0, 8),
        priority=st.integers(0, 2),
        kind=st.sampled_from(("plain", "plain", "hold", "remote")),
    )
    def admit(self, prompt: int, output: int, shared: int, depth: int, priority: int, kind: str) -> None:
        if prompt + output > self.node.limits.usable_tokens:
            return
        self.made += 1
        chain = (*(((shared * 100, depth),) if depth else ()), (1000 * self.made, 20))
        item = Request(
            id=str(self.made),
            runs=cut(chain, 0, (prompt + output) // SIZE),
            prompt_tokens=prompt,
            output_tokens=output,
            priority=priority,
            hold_kv=kind == "hold",
            remote_tokens=prompt if kind == "remote" else 0,
        )
        self.node.admit(item, self.now_s)
        self.live.add(item.id)
        if kind == "hold":
            self.held.add(item.id)

    @rule(many=st.booleans())
    def begin(self, many: bool) -> None:
        if self.node.step is not None:
            return
        self.now_s = max(self.now_s, self.node.busy_until_s)
        step = self.node.begin(self.now_s, max_steps=MANY_STEPS if many else 1)
        if step is None and (wake_s := self.node.wake_s) is not None:
            self.now_s = wake_s
        if step is not None:
            assert step.end_s > step.start_s
            assert sum(count for _, count in step.scheduled) <= 16

    @rule()
    def end(self) -> None:
        if self.node.step is None:
            return
        outcome = self.node.end()
        self.now_s = max(self.now_s, outcome.end_s)
        for end in outcome.finished:
            self.live.remove(end.id)
            assert end.arrived_s <= end.scheduled_s <= end.first_token_s <= end.finished_s

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.live)))
        assert self.node.abort(name, self.now_s)
        self.live.remove(name)
        self.held.discard(name)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        if self.node.release(name, self.now_s):
            self.held.remove(name)

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "node"):
            self.node.check()

    def teardown(self) -> None:
        """Whatever happened: what is left runs to its end, and the pool is empty then."""
        if not hasattr(self, "node"):
            return
        for _ in range(2000):
            if not self.live:
                break
            for name in sorted(self.held - self.live):
                self.node.release(name, self.now_s)
                self.held.remove(name)
            self.end()
            self.begin(many=False)
        assert not self.live, "no request is stuck"
        for name in sorted(self.held):
            self.node.release(name, self.now_s)
        assert self.node.stats().kv_usage == 0
        self.node.check()


ReplicaMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestReplica = ReplicaMachine.TestCase
