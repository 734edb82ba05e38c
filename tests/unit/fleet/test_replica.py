"""fleet.replica: what vLLM's scheduler would do, case by case; nothing lost or stuck under any sequence of calls."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentic_serving.errors import Bug, InvalidInput
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.replica import MANY_STEPS, Replica
from agentic_serving.fleet.runs import cut, ids
from agentic_serving.fleet.tiers import BlockLink, Link, MemoryTier, TierConfig
from agentic_serving.fleet.types import (
    BlocksRemoved,
    BlocksStored,
    Finished,
    Limits,
    Outcome,
    Request,
    Usage,
)

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


def request(
    name: str, prompt: int, output: int = 1, *, first: int = 0, priority: int = 0, hold_kv: bool = False
) -> Request:
    """A request whose blocks, answer included, are numbered from `first` on."""
    count = (prompt + output) // SIZE
    runs = ((first, count),) if count else ()
    return Request(
        id=name, runs=runs, prompt_tokens=prompt, output_tokens=output, priority=priority, hold_kv=hold_kv
    )


def replica(n_blocks: int = 101, *, tokens: int = 64, seqs: int = 8, **options: object) -> Replica:
    limits = Limits(
        n_blocks=n_blocks,
        block_size=SIZE,
        max_batched_tokens=tokens,
        max_seqs=seqs,
        policy="priority" if options.pop("priority", False) else "fcfs",
        watermark=float(str(options.pop("watermark", 0.0))),
        long_prefill_threshold=int(str(options.pop("threshold", 0))),
        prefix_caching=not options.pop("no_caching", False),
    )
    assert not options
    return Replica(limits, PROFILE, record_events=True)


def drain(node: Replica) -> list[Outcome]:
    """Step by step until nothing can run."""
    outcomes: list[Outcome] = []
    now_s = node.busy_until_s
    while True:
        step = node.begin(now_s)
        if step is None:
            wake_s = node.wake_s
            if wake_s is None:
                return outcomes
            now_s = wake_s
            continue
        assert sum(count for _, count in step.scheduled) <= node.limits.max_batched_tokens
        outcomes.append(node.end())
        node.check()
        now_s = node.busy_until_s


def usages(outcomes: list[Outcome]) -> dict[str, Usage]:
    return {end.id: end.usage for outcome in outcomes for end in outcome.finished}


def test_a_long_prompt_is_computed_in_chunks_while_others_decode() -> None:
    node = replica(tokens=16)
    node.admit(request("short", 4, 3), 0.0)
    node.admit(request("long", 40, 1, first=50), 0.0)
    scheduled, tokens = [], []
    while (step := node.begin(node.busy_until_s)) is not None:
        scheduled.append(dict(step.scheduled))
        tokens.append(dict(node.end().tokens))
    assert scheduled == [{"short": 4, "long": 12}, {"short": 1, "long": 15}, {"short": 1, "long": 13}]
    assert tokens == [{"short": 1}, {"short": 1}, {"short": 1, "long": 1}]


def test_one_request_s_share_of_a_step_can_be_limited() -> None:
    node = replica(tokens=16, threshold=6)
    node.admit(request("a", 12), 0.0)
    node.admit(request("b", 12, first=50), 0.0)
    step = node.begin(0.0)
    assert step is not None
    assert step.scheduled == (("a", 6), ("b", 6))


def test_a_step_takes_what_its_profile_says() -> None:
    node = replica(tokens=16)
    node.admit(request("a", 20, 2), 0.0)
    first, second, third = [(node.begin(node.busy_until_s), node.end())[0] for _ in range(3)]
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.end_s == pytest.approx(0.01 + 16 * 0.001 + (16 * 17 / 2) * 1e-6)
    assert second.end_s - first.end_s == pytest.approx(0.01 + 4 * 0.001 + (4 * 16 + 4 * 5 / 2) * 1e-6)
    assert third.end_s - second.end_s == pytest.approx(0.01 + 0.0005 + 21 * 1e-5)


def test_the_last_prompt_token_is_always_computed() -> None:
    node = replica()
    node.admit(request("a", 16), 0.0)
    drain(node)
    node.admit(request("b", 16), node.busy_until_s)
    assert usages(drain(node))["b"].cached == {"local": 12}


def test_the_next_turn_hits_the_answer_but_not_its_last_token() -> None:
    """The last token of an answer is sampled and never computed: 10 + 6 tokens leave 15, three full blocks."""
    node = replica()
    node.admit(request("turn 1", 10, 6), 0.0)
    drain(node)
    node.admit(request("turn 2", 30, 1), node.busy_until_s)
    assert usages(drain(node))["turn 2"].cached == {"local": 12}


def test_blocks_can_be_hit_as_soon_as_they_are_scheduled() -> None:
    node = replica()
    node.admit(request("first", 17), 0.0)
    node.admit(request("second", 17), 0.0)
    step = node.begin(0.0)
    assert step is not None
    assert step.scheduled == (("first", 17), ("second", 1))


def test_without_prefix_caching_nothing_is_hit() -> None:
    node = replica(no_caching=True)
    for name in ("a", "b"):
        node.admit(request(name, 17), node.busy_until_s)
        outcomes = drain(node)
    assert usages(outcomes)["b"].cached_tokens == 0


def test_a_request_waits_until_its_whole_prompt_fits() -> None:
    node = replica(n_blocks=11, tokens=8)
    node.admit(request("first", 24, 2), 0.0)
    node.admit(request("second", 24, 1, first=50), 0.0)
    started = {entry.id: entry.at_s for outcome in drain(node) for entry in outcome.admitted}
    assert started["first"] == 0.0
    assert node.counters.preemptions == 0
    assert started["second"] > 0.05


def test_a_full_cache_preempts_the_youngest_and_it_ends_all_the_same() -> None:
    node = replica(n_blocks=9)
    node.admit(request("old", 12, 12), 0.0)
    node.admit(request("young", 12, 12, first=50), 0.0)
    outcomes = drain(node)
    assert {name for outcome in outcomes for name in outcome.preempted} == {"young"}
    ended = {end.id: end for outcome in outcomes for end in outcome.finished}
    assert ended["young"].preemptions >= 1
    assert ended["old"].preemptions == 0
    emitted: Counter[str] = Counter()
    for outcome in outcomes:
        emitted.update(dict(outcome.tokens))
    assert emitted == {"old": 12, "young": 12}


def test_priority_decides_who_starts_and_who_is_preempted() -> None:
    node = replica(n_blocks=9, priority=True)
    node.admit(request("calm", 12, 12, priority=5), 0.0)
    node.admit(request("urgent", 12, 12, first=50, priority=1), 0.0)
    outcomes = drain(node)
    assert outcomes[0].admitted[0].id == "urgent"
    assert {name for outcome in outcomes for name in outcome.preempted} == {"calm"}


def test_starting_a_request_leaves_the_watermark_free() -> None:
    for watermark, running in ((0.0, 2), (0.3, 1)):
        node = replica(n_blocks=11, watermark=watermark)
        node.admit(request("a", 16, 8), 0.0)
        node.admit(request("b", 16, 8, first=50), 0.0)
        node.begin(0.0)
        assert node.stats().running == running, watermark


def test_gauges_count_as_vllm_counts() -> None:
    node = replica(n_blocks=21, seqs=1)
    node.admit(request("a", 20, 2), 0.0)
    node.admit(request("b", 20, 2, first=50), 0.0)
    node.begin(0.0)
    stats = node.stats()
    assert (stats.running, stats.waiting) == (1, 1)
    assert stats.kv_usage == pytest.approx(5 / 20)
    node.end()
    drain(node)
    assert node.stats().kv_usage == 0.0


def test_events_say_what_can_be_hit() -> None:
    node = replica(n_blocks=10)
    for name, first in (("a", 0), ("b", 50), ("c", 100)):
        node.admit(request(name, 16, 1, first=first), node.busy_until_s)
        events = [event for outcome in drain(node) for event in outcome.events]
        if name == "a":
            assert events == [BlocksStored(((0, 4),), None)]
    assert events[-1] == BlocksStored(((100, 4),), None)
    removed = [event for event in events if isinstance(event, BlocksRemoved)]
    assert removed == [BlocksRemoved(((1, 3),))], "the oldest prompt's last three blocks"


def test_a_chunk_s_event_names_the_block_before_it() -> None:
    node = replica(tokens=8)
    node.admit(request("a", 16, 1), 0.0)
    stored = [event for outcome in drain(node) for event in outcome.events]
    assert stored == [BlocksStored(((0, 2),), None), BlocksStored(((2, 2),), 1)]


def test_an_aborted_request_emits_nothing_and_leaves_nothing() -> None:
    node = replica()
    node.admit(request("a", 16, 5), 0.0)
    node.begin(0.0)
    assert node.abort("a", 0.001)
    outcome = node.end()
    assert (outcome.tokens, outcome.finished) == ((), ())
    assert node.stats().kv_usage == 0
    assert not node.abort("a", 1.0)
    node.check()


def test_kv_of_a_prefill_stays_until_it_is_released() -> None:
    node = replica()
    node.admit(request("a", 16, 1, hold_kv=True), 0.0)
    drain(node)
    assert node.stats().kv_usage == pytest.approx(4 / 100)
    node.check()
    assert not node.reset(1.0)
    assert node.release("a", 1.0)
    assert not node.release("a", 1.0)
    assert node.stats().kv_usage == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (request("long", 400, 10), "410 tokens in all, but the cache has 400"),
        (request("live", 10), "'live' is live already"),
        (
            Request(id="x", runs=(), prompt_tokens=9, output_tokens=1, remote_tokens=9),
            "needs a replica with a link",
        ),
    ],
)
def test_what_cannot_run_is_refused_and_changes_nothing(wrong: Request, message: str) -> None:
    node = replica()
    node.admit(request("live", 10), 0.0)
    with pytest.raises(InvalidInput, match=message):
        node.admit(wrong, 0.0)
    node.check()
    assert node.stats().waiting == 1


def test_a_host_that_calls_out_of_turn_is_told() -> None:
    node = replica()
    with pytest.raises(Bug, match="no step is in progress"):
        node.end()
    node.admit(request("a", 10, 2), 0.0)
    node.begin(0.0)
    with pytest.raises(Bug, match="a step is in progress"):
        node.begin(0.0)


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


def test_fast_forward_takes_uniform_decoding_in_one_step() -> None:
    node = replica()
    node.admit(request("a", 16, 200), 0.0)
    node.begin(0.0)
    node.end()
    step = node.begin(node.busy_until_s, max_steps=MANY_STEPS)
    assert step is not None
    assert step.n_steps == 199
    node.admit(request("b", 16, 1, first=500), step.start_s + 0.001)
    assert node.step is not None
    assert node.step.n_steps == 1


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
