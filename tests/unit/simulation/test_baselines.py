"""simulation.baselines: each rule of the sources on views by hand."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentic_serving.fleet.types import Stats, Usage
from agentic_serving.simulation import Ended, ReplicaView, TurnView
from agentic_serving.simulation.baselines import (
    AffinityFilter,
    Atlas,
    Autellix,
    BurstPrefix,
    ContinuumTTL,
    Gate,
    LeastAttainedService,
    LeastLoad,
    RoundRobin,
    Routed,
    Scorers,
    SessionAffinity,
    ThunderLedger,
    TurnPriority,
    prefill_tokens_per_s,
)
from agentic_serving.simulation.baselines.continuum import best_ttl
from agentic_serving.simulation.views import Policy
from tests.unit.simulation.builders import fleet


def replica(
    index: int, *, turns: int = 0, waiting: int = 0, used: int = 0, tokens: int = 4000
) -> ReplicaView:
    blocks = tokens // 4
    stats = Stats(running=0, waiting=waiting, fetching=0, free_blocks=blocks - used, usable_blocks=blocks)
    return ReplicaView(
        index=index, cache_tokens=tokens, block_size=4, max_seqs=4, read=lambda: stats, turns=turns
    )


def view(
    program: str, *, index: int = 0, at_s: float = 0.0, n_blocks: int = 10, first: int = 0, tokens: int = 0
) -> TurnView:
    return TurnView(
        id=f"{program}/{index}",
        program=program,
        session=program,
        parent=None,
        index=index,
        kind="tool" if index else "human",
        runs=((first, n_blocks),),
        prompt_tokens=tokens or n_blocks * 4,
        arrived_s=at_s,
    )


def ended(turn: TurnView, replica_: int = 0, *, at_s: float = 1.0, output: int = 10) -> Ended:
    usage = Usage(prompt_tokens=turn.prompt_tokens, output_tokens=output, cached={})
    return Ended(
        turn=turn,
        replica=replica_,
        usage=usage,
        placed_s=turn.arrived_s,
        first_token_s=at_s,
        finished_s=at_s,
    )


def names(turns: Sequence[TurnView]) -> list[str]:
    return [turn.program for turn in turns]


def offer(
    policy: Policy, turns: list[TurnView], replicas: list[ReplicaView], now_s: float
) -> dict[str, int | None]:
    """What the fleet does with waiting turns."""
    return {turn.id: policy.place(turn, replicas, now_s) for turn in policy.order(turns, now_s)}


def test_round_robin_takes_turns_and_skips_the_closed() -> None:
    placement, views = RoundRobin(), [replica(0), replica(1), replica(2)]
    assert [placement.choose(view("a"), views, 0.0).index for _ in range(4)] == [0, 1, 2, 0]
    assert placement.choose(view("a"), [views[0], views[2]], 0.0).index == 2


def test_least_load_counts_turns() -> None:
    views = [replica(0, turns=2), replica(1, turns=1), replica(2, turns=1)]
    assert LeastLoad().choose(view("a"), views, 0.0).index == 1


@pytest.mark.parametrize(
    ("home_turns", "after_s", "expected"),
    [(1, 10.0, 0), (2, 10.0, 1), (1, 301.0, 1)],
    ids=["stays", "home has more than 1.25 times the mean", "forgotten after 300 s"],
)
def test_affinity_stays_within_bounds(home_turns: int, after_s: float, expected: int) -> None:
    placement = SessionAffinity()
    assert placement.choose(view("a"), [replica(0), replica(1)], 0.0).index == 0
    busy = [replica(0, turns=home_turns), replica(1)]
    assert placement.choose(view("a", index=1), busy, after_s).index == expected


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([replica(0), replica(1)], 0),
        ([replica(0, waiting=3), replica(1)], 0),
        ([replica(0, waiting=3, used=600), replica(1)], 1),
    ],
    ids=["prefix decides", "prefix 3 beats queue 2", "queue 2 and KV 0.6 times 2 beat prefix 3"],
)
def test_scorers_weigh_two_two_three(views: list[ReplicaView], expected: int) -> None:
    scorers = Scorers()
    scorers.choose(view("a"), [replica(0)], 0.0)
    assert scorers.choose(view("a", index=1), views, 1.0).index == expected


@pytest.mark.parametrize(
    ("n_blocks", "others_tokens", "expected"),
    [(12, 0, 0), (13, 0, 1), (12, 1_700, 0), (12, 1_900, 1)],
    ids=["10 of 12 blocks stick", "10 of 13 do not", "17 s later", "19 s later"],
)
def test_affinity_filter_sticks_at_80_percent_for_18_seconds(
    n_blocks: int, others_tokens: int, expected: int
) -> None:
    placement = AffinityFilter(prefill_tokens_per_s=100.0)
    placement.choose(view("a"), [replica(0)], 0.0)
    placement.on_finish(ended(view("a")))
    if others_tokens:
        placement.choose(view("b", first=500, tokens=others_tokens), [replica(0)], 1.0)
    elif expected:
        placement.choose(view("b", first=500, tokens=40), [replica(0)], 1.0)
    turn = view("a", index=1, n_blocks=n_blocks)
    assert placement.choose(turn, [replica(0), replica(1)], 2.0).index == expected


def test_prefill_rate_is_that_of_full_steps() -> None:
    """A pass of 100 tokens takes 1 + 10 s."""
    assert prefill_tokens_per_s(fleet(batch=100)) == pytest.approx(100 / 11)


def test_las_orders_by_all_tokens_with_half_life_and_wait() -> None:
    order = LeastAttainedService()
    order.on_finish(ended(view("big", tokens=1_000), at_s=0.0, output=50))
    order.on_finish(ended(view("small", tokens=100), at_s=0.0, output=50))
    waiting = [view("big", index=1, at_s=60.0), view("small", index=1, at_s=60.0), view("new", at_s=60.0)]
    assert names(order.order(waiting, 61.0)) == ["new", "small", "big"]
    late = [view("small", index=1, at_s=60.0), view("new", at_s=659.0), view("big", index=1, at_s=60.0)]
    assert names(order.order(late, 660.0)) == [
        "small",
        "new",
        "big",
    ]  # its wait is worth more than its service


def test_turn_priority_prefers_deep_programs_until_they_idle() -> None:
    order = TurnPriority()
    for index in range(3):
        order.on_finish(ended(view("deep", index=index, at_s=float(index)), at_s=float(index)))
    assert names(order.order([view("new", at_s=10.0), view("deep", index=3, at_s=10.0)], 10.0)) == [
        "deep",
        "new",
    ]
    assert names(order.order([view("new", at_s=10.0), view("deep", index=3, at_s=123.0)], 123.0)) == [
        "new",
        "deep",
    ]


@pytest.mark.parametrize(
    ("gate", "view_", "expected"),
    [
        (Gate(turns_per_seq=133 / 128), replica(0, turns=4), True),
        (Gate(turns_per_seq=133 / 128), replica(0, turns=5), False),
        (Gate(engine_queue=1), replica(0, turns=50), True),
        (Gate(engine_queue=1), replica(0, waiting=1), False),
        (Gate(), replica(0, turns=500, waiting=500), True),
    ],
    ids=["room", "133 for 128", "nobody queues", "somebody queues", "no gate"],
)
def test_gates(gate: Gate, view_: ReplicaView, *, expected: bool) -> None:
    assert gate.open(view_) is expected
    policy = Routed(LeastLoad(), gate=gate)
    assert policy.ready([view_], 0.0) is expected
    assert policy.place(view("a"), [view_], 0.0) == (0 if expected else None)


def test_ledger_admits_what_fits_smallest_first_and_spreads() -> None:
    ledger, views = ThunderLedger(), [replica(0, tokens=1_000), replica(1, tokens=1_000)]
    waiting = [view("large", tokens=800), view("small", tokens=300), view("middle", tokens=700)]
    placed = offer(ledger, waiting, views, 0.0)
    assert placed == {"small/0": 0, "middle/0": 1, "large/0": None}
    ledger.on_finish(ended(waiting[1], 0, at_s=1.0))
    ledger.on_end("small", 1.0)
    assert offer(ledger, [waiting[0]], views, 1.0) == {"large/0": 0}


def test_ledger_runs_what_is_larger_than_a_cache_on_an_empty_replica() -> None:
    ledger, views = ThunderLedger(), [replica(0, tokens=1_000)]
    waiting = [view("small", tokens=300), view("huge", tokens=990)]
    assert offer(ledger, waiting, views, 0.0) == {"small/0": 0, "huge/0": None}
    ledger.on_finish(ended(waiting[0], at_s=1.0))
    ledger.on_end("small", 1.0)
    assert offer(ledger, waiting[1:], views, 1.0) == {"huge/0": 0}


def test_ledger_resumes_who_waited_half_an_hour() -> None:
    ledger, views = ThunderLedger(), [replica(0, tokens=1_000)]
    assert offer(ledger, [view("a", tokens=800)], views, 0.0) == {"a/0": 0}
    late = view("b", at_s=1.0, tokens=800)
    assert offer(ledger, [late], views, 1.0) == {"b/0": None}
    assert offer(ledger, [late], views, 1800.0) == {"b/0": None}
    assert offer(ledger, [late], views, 1801.0) == {"b/0": 0}


def test_ledger_keeps_an_active_program_s_place_across_a_gap_and_decays_it_for_others() -> None:
    ledger, views = ThunderLedger(), [replica(0, tokens=1_000)]
    first = view("a", tokens=500)
    assert offer(ledger, [first], views, 0.0) == {"a/0": 0}
    ledger.on_finish(ended(first, at_s=1.0))
    other = view("b", at_s=1.5, tokens=600)
    assert offer(ledger, [other], views, 1.5) == {"b/0": None}
    assert offer(ledger, [other], views, 4.0) == {"b/0": 0}  # an eighth of a's tokens counts after 3 s
    assert offer(ledger, [view("a", index=1, at_s=4.5, tokens=520)], views, 4.5) == {"a/1": 0}


def test_ledger_pauses_the_smallest_at_its_tool_boundary_when_contexts_outgrow_the_cache() -> None:
    ledger, views = ThunderLedger(), [replica(0, tokens=1_000)]
    a, b = view("a", tokens=300), view("b", tokens=400)
    assert offer(ledger, [a, b], views, 0.0) == {"a/0": 0, "b/0": 0}
    ledger.on_finish(ended(a, at_s=1.0))
    ledger.on_finish(ended(b, at_s=1.0))
    grown = [view("b", index=1, at_s=5.0, tokens=700)]
    assert offer(ledger, grown, views, 5.0) == {"b/1": 0}  # and a, which runs a tool, lost its place
    assert offer(ledger, [view("a", index=1, at_s=5.5, tokens=300)], views, 5.5) == {"a/1": None}


def test_best_ttl_covers_the_gaps_that_pay() -> None:
    gaps_s = [1.0] * 8 + [50.0, 60.0]
    assert best_ttl(gaps_s, 10.0) == 1.0  # 0.8 * 10 - 1
    assert best_ttl(gaps_s, 1_000.0) == 60.0  # 1000 - 60
    assert best_ttl(gaps_s, 1.0) == 0.0  # 0.8 - 1 is a loss
    assert best_ttl([], 1.0) == 0.0


def test_continuum_reserves_for_its_time_and_then_lets_others_in() -> None:
    policy, views = ContinuumTTL(prefill_tokens_per_s=100.0), [replica(0, tokens=1_000, turns=1)]
    idle = [replica(0, tokens=1_000)]
    a = view("a", tokens=700)
    assert offer(policy, [a], idle, 0.0) == {"a/0": 0}
    policy.on_finish(ended(a, at_s=1.0))
    b = view("b", at_s=1.5, tokens=600)
    assert offer(policy, [b], views, 1.5) == {"b/0": None}
    assert policy.wake_s(1.5) == 3.0  # 2 s, until gaps were seen
    back = view("a", index=1, at_s=2.0, tokens=720)
    assert offer(policy, [b, back], views, 2.0) == {"a/1": 0, "b/0": None}
    policy.on_finish(ended(back, at_s=4.0))
    assert offer(policy, [b], views, 6.0) == {"b/0": 0}


def test_affinity_filter_s_load_ends_with_the_turn() -> None:
    placement, views = AffinityFilter(prefill_tokens_per_s=100.0), [replica(0), replica(1)]
    first = view("a", tokens=1_000)
    assert placement.choose(first, views, 0.0).index == 0
    assert placement.choose(view("b", first=500), views, 1.0).index == 1
    placement.on_finish(ended(first))
    assert placement.choose(view("c", first=900), views, 2.0).index == 0


def test_las_counts_an_answer_s_tokens_twice() -> None:
    order = LeastAttainedService()
    order.on_finish(ended(view("wordy", tokens=100), at_s=0.0, output=100))
    order.on_finish(ended(view("terse", tokens=250), at_s=0.0, output=1))
    waiting = [view("wordy", index=1, at_s=1.0), view("terse", index=1, at_s=1.0)]
    assert names(order.order(waiting, 1.0)) == ["terse", "wordy"]


def test_ledger_marks_the_smallest_where_all_are_being_served() -> None:
    ledger, views = ThunderLedger(), [replica(0, tokens=1_000)]
    a, b = view("a", tokens=300), view("b", tokens=400)
    offer(ledger, [a, b], views, 0.0)
    ledger.on_finish(ended(a, at_s=1.0))
    assert offer(ledger, [view("a", index=1, at_s=2.0, tokens=700)], views, 2.0) == {"a/1": 0}
    assert offer(ledger, [view("c", at_s=5.0, tokens=900)], views, 5.0) == {"c/0": None}
    ledger.on_finish(ended(b, at_s=6.0))
    assert offer(ledger, [view("b", index=1, at_s=7.0, tokens=400)], views, 7.0) == {"b/1": None}


def test_ledger_forgets_sub_agents_once_the_root_goes_on() -> None:
    ledger, views = ThunderLedger(), [replica(0, tokens=1_000)]
    root, child = view("p", tokens=100), replace(view("p", tokens=700), id="p/c/0", session="c", parent="p")
    for turn in (root, child):
        offer(ledger, [turn], views, 0.0)
        ledger.on_finish(ended(turn, at_s=1.0))
    back, other = view("p", index=1, at_s=2.0, tokens=120), view("q", at_s=2.0, tokens=600)
    assert offer(ledger, [back, other], views, 2.0) == {"p/1": 0, "q/0": 0}


def test_continuum_serves_reserved_sessions_first() -> None:
    policy, views = ContinuumTTL(prefill_tokens_per_s=100.0), [replica(0, tokens=1_000)]
    young = view("young", at_s=1.0, tokens=500)
    assert offer(policy, [young], views, 1.0) == {"young/0": 0}
    policy.on_finish(ended(young, at_s=2.0))
    waiting = [view("old", at_s=0.5), view("young", index=1, at_s=3.0)]
    assert names(policy.order(waiting, 3.0)) == ["young", "old"]


def test_turn_priority_counts_from_one_again_after_an_idle_program_s_turn() -> None:
    order = TurnPriority()
    for index, at_s in enumerate([0.0, 1.0, 2.0, 200.0]):
        order.on_finish(ended(view("idled", index=index, at_s=at_s), at_s=at_s))
    for index, at_s in enumerate([198.0, 199.0, 200.0]):
        order.on_finish(ended(view("busy", index=index, at_s=at_s), at_s=at_s))
    waiting = [view("idled", index=4, at_s=201.0), view("busy", index=3, at_s=201.0)]
    assert names(order.order(waiting, 201.0)) == ["busy", "idled"]


def test_turn_priority_lets_half_a_turn_go_for_a_second_of_waiting() -> None:
    order = TurnPriority()
    for index in range(4):
        order.on_finish(ended(view("deep", index=index, at_s=0.0), at_s=1.0))
    for new_s, expected in ((3.0, ["deep", "new"]), (1.0, ["new", "deep"])):
        waiting = [view("new", at_s=new_s), view("deep", index=4, at_s=10.0)]
        assert names(order.order(waiting, 10.0)) == expected


def test_bursts_of_one_prompt_wait_for_their_window_and_go_together() -> None:
    policy, views = BurstPrefix(prefill_tokens_per_s=100.0), [replica(0), replica(1)]
    burst = [view(name, first=100, n_blocks=20) for name in ("a", "b", "c")]
    pair = [view(name, first=500, at_s=0.05) for name in ("d", "e")]
    assert set(offer(policy, burst, views, 0.0).values()) == {None}
    assert set(offer(policy, burst + pair, views, 0.05).values()) == {None}
    assert policy.wake_s(0.05) == pytest.approx(0.1)
    placed = offer(policy, burst + pair, views, 0.1)
    assert placed == {"a/0": 0, "b/0": 0, "c/0": 0, "d/0": 1, "e/0": 1}


def test_a_burst_goes_where_its_prompt_already_is() -> None:
    policy, views = BurstPrefix(prefill_tokens_per_s=100.0), [replica(0), replica(1)]
    other, first = view("other", first=900), view("first", first=100, n_blocks=20)
    offer(policy, [other, first], views, 0.0)
    assert offer(policy, [other, first], views, 0.1) == {"other/0": 0, "first/0": 1}
    burst = [view(name, first=100, n_blocks=20, at_s=1.0) for name in ("a", "b")]
    offer(policy, burst, views, 1.0)
    assert set(offer(policy, burst, views, 1.1).values()) == {1}


def test_atlas_counts_the_critical_path_and_promotes_the_starved() -> None:
    order = Atlas(prefill_tokens_per_s=100.0, beta=10.0)
    siblings = [replace(view("wide", tokens=300), id=f"wide/{i}") for i in range(2)]
    deep = [view("deep", index=i, tokens=300) for i in range(2)]
    order.order(siblings, 0.0)
    for turn in siblings:  # 3 s each, side by side
        order.on_finish(ended(turn, at_s=3.0))
    for turn in deep:  # 3 s each, one after the other
        order.order([turn], 0.0)
        order.on_finish(ended(turn, at_s=3.0))
    waiting = [view("deep", index=2, at_s=3.0), view("wide", index=2, at_s=4.0)]
    assert names(order.order(waiting, 4.0)) == ["wide", "deep"]
    assert names(order.order(waiting, 70.0)) == ["deep", "wide"]  # both have waited ten times their service


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(2_048, 1), (2_049, None)],
    ids=["short ones go anywhere", "others wait for home"],
)
def test_autellix_pins_programs_but_for_short_prompts(tokens: int, expected: int | None) -> None:
    policy = Autellix(prefill_tokens_per_s=100.0, gate=Gate(engine_queue=1))
    assert offer(policy, [view("a", tokens=3_000)], [replica(0), replica(1)], 0.0) == {"a/0": 0}
    busy = [replica(0, turns=3, waiting=1), replica(1)]
    assert offer(policy, [view("a", index=1, tokens=tokens)], busy, 1.0) == {"a/1": expected}


@pytest.mark.parametrize(
    ("decay", "expected"), [(True, 0), (False, None)], ids=["the paper's", "the source's"]
)
def test_ledger_counts_programs_whose_tools_run_in_full_without_decay(
    *, decay: bool, expected: int | None
) -> None:
    ledger, views = ThunderLedger(decay=decay), [replica(0, tokens=1_000)]
    away = view("away", tokens=600)
    offer(ledger, [away], views, 0.0)
    ledger.on_finish(ended(away, at_s=1.0))
    assert offer(ledger, [view("new", at_s=9.0, tokens=600)], views, 9.0) == {"new/0": expected}
