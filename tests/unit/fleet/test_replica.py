"""fleet.replica: what vLLM's scheduler would do, case by case."""

from collections import Counter

import pytest

from agentic_serving.errors import Bug, InvalidInput
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.replica import MANY_STEPS, Replica
from agentic_serving.fleet.types import (
    BlocksRemoved,
    BlocksStored,
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
