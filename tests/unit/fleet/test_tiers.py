"""fleet.tiers and transfers: what comes from where, when it arrives, what is stored and forgotten."""

import pytest

from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.replica import Replica
from agentic_serving.fleet.tiers import BlockLink, Link, MemoryTier, StoresOn, TierConfig
from agentic_serving.fleet.types import (
    BlocksRemoved,
    BlocksStored,
    CacheEvent,
    Finished,
    Limits,
    Request,
    Source,
)

PROFILE = StepProfile(name="test", source="test", base_s=0.01, prefill_token_s=0.001)
SIZE = 4


def tier(
    capacity: int = 100,
    *,
    source: Source = "host",
    chunk: int = 1,
    on: StoresOn = "finish",
    prompt_only: bool = True,
    bytes_per_s: float = 1e9,
) -> MemoryTier:
    config = TierConfig(
        source=source,
        capacity_blocks=capacity,
        block_bytes=1000,
        chunk_blocks=chunk,
        stores_on=on,
        prompt_only=prompt_only,
    )
    return MemoryTier(config, read=Link(bytes_per_s), write=Link(1e9))


def replica(*tiers: MemoryTier, n_blocks: int = 101, link: BlockLink | None = None) -> Replica:
    limits = Limits(n_blocks=n_blocks, block_size=SIZE, max_batched_tokens=64)
    return Replica(limits, PROFILE, tiers=tiers, link=link)


def run(
    node: Replica, name: str, prompt: int, *, output: int = 1, first: int = 0, remote: int = 0
) -> Finished:
    """One request alone, from now to its end."""
    runs = ((first, (prompt + output) // SIZE),)
    item = Request(id=name, runs=runs, prompt_tokens=prompt, output_tokens=output, remote_tokens=remote)
    node.admit(item, node.busy_until_s + 1)
    (end,) = node.advance(node.busy_until_s + 1e6)
    node.check()
    return end


def test_what_the_gpu_forgot_comes_back_from_the_host() -> None:
    node = replica(tier())
    run(node, "a", 18)
    node.reset(node.busy_until_s)
    again = run(node, "b", 18)
    assert again.usage.cached == {"local": 0, "host": 16}
    assert node.counters.external_hits == 16
    assert again.first_token_s - again.scheduled_s == pytest.approx(0.01 + 2 * 0.001)


def test_a_load_takes_its_bytes_and_blocks_nobody_else() -> None:
    slow = tier(bytes_per_s=4000)  # four blocks of 1,000 bytes: one second
    node = replica(slow)
    run(node, "a", 18)
    node.reset(node.busy_until_s)
    now_s = node.busy_until_s + 1
    node.admit(Request(id="load", runs=((0, 4),), prompt_tokens=18, output_tokens=1), now_s)
    node.admit(Request(id="other", runs=((50, 4),), prompt_tokens=18, output_tokens=1), now_s)
    step = node.begin(now_s)
    assert step is not None
    assert step.scheduled == (("other", 18),)
    assert (node.stats().waiting, node.stats().fetching) == (1, 1)
    assert node.wake_s == pytest.approx(now_s + 1)
    node.end()
    assert node.begin(now_s + 0.9) is None
    step = node.begin(now_s + 1.0)
    assert step is not None
    assert step.scheduled == (("load", 2),)


def test_tiers_continue_each_other_and_the_local_cache() -> None:
    host, shared = tier(2), tier(source="shared")
    node = replica(host, shared)
    run(node, "a", 18)
    node.reset(node.busy_until_s)
    run(node, "b", 6)
    node.reset(node.busy_until_s)
    assert host.used_blocks == 2
    run(node, "c", 6, first=0)
    again = run(node, "d", 18)
    assert again.usage.cached == {"local": 4, "host": 4, "shared": 8}


def test_a_prompt_that_is_there_to_its_last_token_computes_that_one() -> None:
    node = replica(tier())
    run(node, "a", 16)
    node.reset(node.busy_until_s)
    now_s = node.busy_until_s + 1
    node.admit(Request(id="b", runs=((0, 4),), prompt_tokens=16, output_tokens=1), now_s)
    assert node.begin(now_s) is None
    wake_s = node.wake_s
    assert wake_s is not None
    step = node.begin(wake_s)
    assert step is not None
    assert step.scheduled == (("b", 1),)


def test_only_whole_chunks_are_stored_and_found() -> None:
    lmcache = tier(chunk=4)
    node = replica(lmcache)
    run(node, "a", 26)
    assert lmcache.match(((0, 6),), 0, node.busy_until_s + 1) == 4
    node.reset(node.busy_until_s)
    assert run(node, "b", 26).usage.cached == {"local": 0, "host": 16}


@pytest.mark.parametrize(("prompt_only", "blocks"), [(True, 4), (False, 6)])
def test_answers_are_stored_only_where_asked(prompt_only: bool, blocks: int) -> None:
    host = tier(prompt_only=prompt_only)
    run(replica(host), "a", 16, output=9)
    host.match((), 0, 1e9)
    assert host.used_blocks == blocks


@pytest.mark.parametrize(("on", "blocks"), [("computed", 16), ("finish", 0), ("evict", 0)])
def test_a_tier_is_written_when_it_says(on: StoresOn, blocks: int) -> None:
    """After one of two chunks of a prompt."""
    host = tier(on=on)
    node = replica(host)
    node.admit(Request(id="a", runs=((0, 30),), prompt_tokens=120, output_tokens=1), 0.0)
    node.begin(0.0)
    node.end()
    host.match((), 0, 1e9)
    assert host.used_blocks == blocks


def test_a_victim_tier_gets_what_the_gpu_evicts() -> None:
    victims = tier(on="evict")
    node = replica(victims, n_blocks=10)
    run(node, "a", 20)
    run(node, "b", 20, first=50)
    run(node, "c", 20, first=100)
    again = run(node, "d", 20)
    assert again.usage.cached["host"] == 20


def test_the_host_forgets_what_was_used_longest_ago() -> None:
    host = tier(8)
    node = replica(host)
    for name, first in (("a", 0), ("b", 50), ("a again", 0), ("c", 100)):
        node.reset(node.busy_until_s)
        run(node, name, 18, first=first)
    now_s = node.busy_until_s + 1
    there = {first: host.match(((first, 4),), 0, now_s) for first in (0, 50, 100)}
    assert there == {0: 4, 50: 0, 100: 4}


def test_a_write_can_be_read_when_it_has_arrived() -> None:
    config = TierConfig(source="disk", capacity_blocks=10, block_bytes=1000)
    disk = MemoryTier(config, read=Link(1e9), write=Link(4000, 0.5))
    disk.store(((0, 4),), 10.0)
    assert disk.match(((0, 4),), 0, 11.4) == 0
    assert disk.match(((0, 4),), 0, 11.5) == 4
    disk.check()


def test_two_replicas_share_one_tier() -> None:
    shared = tier(source="shared")
    first, second = replica(shared), replica(shared)
    run(first, "a", 18)
    run(second, "later", 4, first=50)
    assert run(second, "b", 18).usage.cached == {"local": 0, "shared": 16}


def test_a_tier_s_own_events_name_its_medium() -> None:
    host = tier(3)
    journal: list[CacheEvent] = []
    host.record(journal)
    host.store(((0, 3),), 0.0)
    host.store(((50, 1),), 1.0)
    host.match((), 0, 2.0)
    assert journal == [
        BlocksStored(((0, 3),), None, "CPU"),
        BlocksRemoved(((2, 1),), "CPU"),
        BlocksStored(((50, 1),), None, "CPU"),
    ]


def test_prefill_s_kv_reaches_the_decode_replica_over_the_link() -> None:
    node = replica(link=BlockLink(Link(10_000, 0.1), 1000))
    run(node, "warm", 9)
    end = run(node, "b", 18, output=3, remote=18)
    assert end.usage.cached == {"local": 8, "p2p": 10}
    assert end.scheduled_s - end.arrived_s == pytest.approx(0.1 + 3 * 1000 / 10_000)
    assert end.first_token_s - end.scheduled_s == pytest.approx(0.01 + 0.001), "one token is computed"


def test_a_link_serves_one_transfer_after_the_other() -> None:
    link = Link(1000, 0.5)
    assert [link.transfer(1000, 0.0), link.transfer(500, 0.0), link.transfer(1000, 10.0)] == [1.5, 2.5, 11.5]


def test_a_decode_replica_that_is_full_preempts_and_computes_what_was_sent() -> None:
    node = replica(n_blocks=13, link=BlockLink(Link(1e9), 1000))
    for name, first in (("a", 0), ("b", 50)):
        node.admit(
            Request(id=name, runs=((first, 4),), prompt_tokens=18, output_tokens=20, remote_tokens=18), 0.0
        )
    ends = node.advance(1e6)
    assert len(ends) == 2
    assert sum(end.preemptions for end in ends) >= 1
    node.check()


@pytest.mark.parametrize("make", [lambda: Link(0), lambda: Link(1, -1), lambda: tier(0)])
def test_impossible_tiers_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(InvalidInput):
        make()
