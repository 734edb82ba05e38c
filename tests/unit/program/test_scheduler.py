"""What the scheduler does with turns: where they go, which wait, and when those go. Replicas hold 100,000 tokens."""

import pytest

from agentic_serving.errors import Bug
from agentic_serving.program import events as ev
from agentic_serving.program.events import Reason
from agentic_serving.program.policy import Policy
from tests.unit.program.scheduling import Driver

#: Nothing goes for being cheap to compute again.
STRICT = Policy(recompute_budget=0.0)


def full(policy: Policy = STRICT, n_replicas: int = 2) -> Driver:
    """Every replica decodes a turn of 80,000 tokens: b0.0 on r0, b1.0 on r1."""
    made = Driver(n_replicas, policy)
    for i in range(n_replicas):
        made.arrive(f"b{i}.0", 80_000)
        made.first_token(f"b{i}.0")
        assert made.where(f"b{i}.0") == f"r{i}"
    return made


def beside(d: Driver) -> None:
    """Small turns on both, so that no replica is ever without any."""
    for i in range(2):
        d.arrive(f"x{i}.0", 10_000)
        d.first_token(f"x{i}.0")
    assert {d.where("x0.0"), d.where("x1.0")} == {"r0", "r1"}


# Where a turn goes


def test_a_turn_goes_where_its_prefix_is() -> None:
    d = Driver(3)
    homes = {name: d.serve(f"{name}.0", 40_000, output=500) for name in "abc"}
    assert sorted(homes.values(), key=str) == ["r0", "r1", "r2"]
    for name in "cab":
        d.arrive(f"{name}.1", 42_000, own=40_500)
        told = d.admits[f"{name}.1"]
        assert (told.replica, told.reason, told.uncached_tokens) == (homes[name], Reason.WARM, 1_500)


def test_a_newcomer_goes_where_there_is_room() -> None:
    d = Driver(3, STRICT)
    for i, tokens in enumerate((80_000, 50_000, 80_000)):
        d.arrive(f"b{i}.0", tokens)
        d.first_token(f"b{i}.0")
    d.arrive("a.0", 45_000)
    assert (d.where("a.0"), d.reason("a.0")) == ("r1", Reason.ROOM)


def test_a_replica_that_does_nothing_takes_a_prompt_that_is_longer_than_its_cache() -> None:
    d = Driver(1, STRICT)
    d.arrive("a.0", 250_000)
    assert d.where("a.0") == "r0"


def test_a_little_that_is_new_stays_at_home_while_much_is_computed_there() -> None:
    d = Driver(2)
    home = d.serve("a.0", 20_000)
    d.serve("b.0", 10_000)
    d.arrive("c.0", 30_000, shares={"a": 8_000})
    assert d.where("c.0") == home
    d.arrive("a.1", 22_000, own=20_000)
    assert (d.where("a.1"), d.reason("a.1")) == (home, Reason.WARM)


def test_much_that_is_new_waits_for_the_prefill_at_home() -> None:
    """20,000 of 50,000 are new, and 12,000 are computed at its home; the other replica is full."""
    d = full()
    d.seen("r2")
    assert d.serve("a.0", 30_000) == "r2"
    d.arrive("b.0", 12_000)
    d.arrive("a.1", 50_000, own=30_000)
    assert (d.where("b.0"), d.reason("a.1")) == ("r2", Reason.PREFILL)
    d.first_token("b.0")
    assert (d.where("a.1"), d.reason("a.1")) == ("r2", Reason.WARM)


def test_with_no_known_replica_the_picker_decides() -> None:
    d = Driver(0)
    d.arrive("a.0", 10_000)
    assert (d.where("a.0"), d.reason("a.0")) == (None, Reason.ONLY)
    d.first_token("a.0")
    d.end("a.0", output=10)
    d.seen("r0")
    d.arrive("a.1", 10_000, own=10_010)
    assert d.where("a.1") == "r0"


@pytest.mark.parametrize(("own", "replica"), [(0, None), (30_000, "r0")])
def test_side_requests_are_never_held(own: int, replica: str | None) -> None:
    d = full()
    d.arrive("t.0", 90_000, side=True)
    told = d.admits["t.0"]
    assert (told.reason, told.held_s) == (Reason.SIDE, 0.0)
    d.end("t.0")
    assert len(d.scheduler.absence) == 0  # no part of the task: nobody waits for its session


# Which wait


def test_a_newcomer_that_would_evict_what_is_in_use_waits() -> None:
    d = full()
    d.now_s = 5.0
    d.arrive("a.0", 50_000, max_hold_s=60.0)
    assert d.waits("a.0")
    assert d.holds["a.0"] == ev.Hold(turn_id="a.0", until_s=65.0, reason=Reason.NO_ROOM)


def test_what_waits_goes_when_a_session_was_away_long_enough() -> None:
    d = full()
    beside(d)
    d.arrive("a.0", 50_000)
    d.end("b1.0")
    assert d.waits("a.0")  # b1 has just left: it is back soon
    d.run_until(STRICT.keep_s + 1.0)
    assert (d.where("a.0"), d.reason("a.0")) == ("r1", Reason.ROOM)


def test_what_waits_goes_when_a_run_ends() -> None:
    d = full()
    beside(d)
    d.end("b1.0")
    d.arrive("a.0", 50_000)
    assert d.waits("a.0")
    d.do(ev.RunEnded("b1"))
    assert (d.where("a.0"), d.reason("a.0")) == ("r1", Reason.ROOM)
    assert d.drops == [ev.Drop("b1", ("r1",))]


def test_what_waits_goes_when_a_turn_ends_that_was_said_to_be_the_last() -> None:
    d = Driver(1, STRICT)
    d.scheduler.absence._trust["default"] = 1.0
    d.arrive("x.0", 10_000)
    d.first_token("x.0")
    d.arrive("b.0", 80_000, declared=ev.Declared(gap_s=None))
    d.first_token("b.0")
    d.arrive("a.0", 60_000)
    assert d.waits("a.0")
    d.end("b.0")
    assert (d.where("a.0"), d.reason("a.0")) == ("r0", Reason.ROOM)


def test_a_prompt_that_fits_nowhere_goes_when_a_replica_has_nothing_to_do_and_nothing_to_keep() -> None:
    d = Driver(1, STRICT)
    d.arrive("b.0", 80_000)
    d.arrive("a.0", 110_000)
    assert d.waits("a.0")
    d.end("b.0")
    d.do(ev.RunEnded("b"))
    assert d.where("a.0") == "r0"


def test_what_waits_goes_to_a_new_replica() -> None:
    d = full()
    d.arrive("a.0", 50_000)
    d.seen("r2")
    assert (d.where("a.0"), d.admits["a.0"].held_s) == ("r2", 0.0)


def test_the_one_whose_task_attained_less_goes_first_and_priority_before_that() -> None:
    def waiting(policy: Policy) -> list[str]:
        d = Driver(2, policy)
        for name, attained in (("much", 30_000), ("some", 20_000), ("little", 1_000)):
            d.serve(f"{name}.0", attained, human=True)
        d.scheduler.residents.gone("r0")
        d.scheduler.residents.gone("r1")
        for i in range(2):
            d.arrive(f"b{i}.0", 95_000)
            d.first_token(f"b{i}.0")
        for name in ("much", "some", "little"):
            d.arrive(f"{name}.1", 80_000)
        d.arrive("urgent.0", 80_000, priority=1)
        started = len(d.order)
        d.seen("r2")
        for _ in range(4):
            turn = d.order[-1]
            d.first_token(turn)
            d.end(turn)
            d.do(ev.RunEnded(turn.split(".")[0]))
        return d.order[started:]

    assert waiting(STRICT) == ["urgent.0", "little.1", "some.1", "much.1"]
    by_arrival = Policy(recompute_budget=0.0, least_attained_first=False)
    assert waiting(by_arrival) == ["urgent.0", "much.1", "some.1", "little.1"]


def test_cached_tokens_and_earlier_tasks_are_not_charged() -> None:
    d = Driver(1)
    d.serve("a.0", 30_000, human=True)
    assert d.scheduler.service.attained("a") == 30_000
    d.arrive("a.1", 32_000, own=30_000)
    d.end("a.1", cached=30_000)
    assert d.scheduler.service.attained("a") == 32_000
    d.serve("sub.0", 5_000, run="a", session="sub")
    assert d.scheduler.service.attained("a") == 37_000  # a sub-agent's work is its task's
    d.arrive("a.2", 33_000, own=32_000, human=True)
    assert d.scheduler.service.attained("a") == 0


# Holds end


def test_a_held_turn_goes_exactly_when_its_hold_is_over_and_all_such_to_one_replica() -> None:
    d = full(n_replicas=3)
    for i, hold_s in enumerate((30.0, 10.5, 20.0)):
        d.arrive(f"a{i}.0", 60_000, max_hold_s=hold_s)
    d.run_until(10.4)
    assert not set(d.admits) & {"a0.0", "a1.0", "a2.0"}
    assert d.scheduler.wake_s == 10.5
    d.run_until(30.0)
    told = [d.admits[f"a{i}.0"] for i in range(3)]
    assert [one.held_s for one in told] == [30.0, 10.5, 20.0]
    assert {one.reason for one in told} == {Reason.OVERFLOW}
    assert len({one.replica for one in told}) == 1
    assert d.scheduler.wake_s is None


@pytest.mark.parametrize(
    ("n_replicas", "share", "hosts"),
    [(2, 0.5, 1), (3, 0.5, 2), (4, 0.5, 2), (2, 1.0, 2), (1, 0.5, 1)],
    ids=str,
)
def test_overflow_that_waits_too_long_takes_further_replicas_up_to_its_share(
    n_replicas: int, share: float, hosts: int
) -> None:
    # Each turn alone is more than the queue's bound: 90,000 tokens at 15,000/s are 6 s.
    d = full(Policy(recompute_budget=0.0, overflow_queue_s=5.0, overflow_share=share), n_replicas)
    for i in range(6):
        d.arrive(f"o{i}.0", 90_000, max_hold_s=10.0)
    d.tick(10.0)
    assert {d.reason(f"o{i}.0") for i in range(6)} == {Reason.OVERFLOW}
    assert len({d.where(f"o{i}.0") for i in range(6)}) == hosts


def test_a_turn_that_arrives_may_be_the_one_that_ends_anothers_hold() -> None:
    d = full()
    d.arrive("a.0", 60_000, max_hold_s=10.0)
    d.now_s = 12.0
    d.arrive("b.0", 60_000)
    assert d.order[-1] == "a.0"
    assert d.waits("b.0")


@pytest.mark.parametrize(("attained", "first"), [(20_000, "a.0"), (0, "c.0")])
def test_room_that_came_with_time_is_first_theirs_who_rank_first(attained: int, first: str) -> None:
    d = full()
    beside(d)
    d.scheduler.service.charge("a", 10_000, 0.0)
    d.scheduler.service.charge("c", attained, 0.0)
    d.arrive("a.0", 50_000)
    d.end("b1.0")
    d.now_s = STRICT.keep_s + 1.0
    d.arrive("c.0", 50_000)
    assert d.order[-1] == first
    assert d.waits("c.0" if first == "a.0" else "a.0")


def test_no_hold_allowed_no_hold() -> None:
    d = full()
    d.arrive("a.0", 50_000, max_hold_s=0.0)
    assert d.admits["a.0"].held_s == 0.0


# Siblings


def fan_out(policy: Policy = STRICT, n_replicas: int = 2) -> Driver:
    """A leader computes 30,000 tokens; a sibling shares 29,000 of them."""
    d = Driver(n_replicas, policy)
    d.arrive("lead.0", 30_000, run="R")
    d.arrive("sib.0", 31_000, run="R", shares={"lead": 29_000})
    return d


def test_a_sibling_waits_for_what_it_shares_and_follows_it() -> None:
    d = fan_out()
    assert (d.waits("sib.0"), d.reason("sib.0")) == (True, Reason.SIBLING)
    d.first_token("lead.0")
    told = d.admits["sib.0"]
    assert (told.replica, told.reason, told.uncached_tokens) == (d.where("lead.0"), Reason.WARM, 2_000)


def test_a_sibling_goes_when_its_leader_fails() -> None:
    d = fan_out()
    d.do(ev.Failed("lead.0"))
    assert d.admits["sib.0"].uncached_tokens == 31_000


def test_a_sibling_goes_when_its_leaders_replica_is_gone() -> None:
    d = fan_out()
    gone = d.where("lead.0")
    assert gone is not None
    d.do(ev.ReplicaGone(gone))
    assert d.where("sib.0") not in (None, gone)


def test_a_sibling_goes_when_its_leader_ends_without_a_first_token() -> None:
    d = fan_out()
    d.end("lead.0", output=100)
    assert d.reason("sib.0") is Reason.WARM


@pytest.mark.parametrize(
    ("shared", "waits"),
    [(STRICT.shared_tokens, True), (STRICT.shared_tokens - 1, False)],
)
def test_siblings_that_share_little_do_not_wait(shared: int, waits: bool) -> None:
    d = Driver(2, STRICT)
    d.arrive("lead.0", 30_000, run="R")
    d.arrive("sib.0", 31_000, run="R", shares={"lead": shared})
    assert d.waits("sib.0") is waits


def test_a_sibling_does_not_wait_for_what_is_already_there() -> None:
    """Only 1,000 of what they share are being computed."""
    d = Driver(2, STRICT)
    home = d.serve("lead.0", 30_000)
    d.arrive("lead.1", 31_000, own=30_000)
    d.arrive("sib.0", 32_000, shares={"lead": 31_000})
    assert d.where("sib.0") == home


# The recompute budget


@pytest.mark.parametrize(("tokens_per_s", "longest_s"), [(200_000.0, 20.0), (2_000.0, 300.0)])
def test_little_is_held_for_long_where_prefill_is_fast(tokens_per_s: float, longest_s: float) -> None:
    """Evicting 40,000 tokens costs 0.2 s beside one that decodes, or 20 s."""
    d = full(Policy())
    for replica in d.scheduler._placing.replicas.values():
        replica.tokens_per_s = tokens_per_s
    d.tick(0.0)
    d.arrive("a.0", 60_000)
    d.run_until(400.0)
    held_s = d.admits["a.0"].held_s
    assert held_s <= longest_s if longest_s < 300 else held_s == 300.0


def test_how_fast_prefill_is_comes_from_long_prompts_that_were_streamed() -> None:
    d = Driver(1)
    replica = d.scheduler._placing.replicas["r0"]
    before = replica.tokens_per_s
    d.arrive("a.0", 40_000)
    d.now_s += 100.0
    d.end("a.0", output=4_000)  # in one piece: most of the time was decoding
    assert replica.tokens_per_s == before
    d.arrive("b.0", 40_000)
    d.now_s += 100.0
    d.first_token("b.0")
    assert replica.tokens_per_s < before


@pytest.mark.parametrize(("step_tokens", "learns"), [(2_048, True), (8_192, False)])
def test_what_a_long_prompt_is_follows_the_engine_s_step(step_tokens: int, learns: bool) -> None:
    d = Driver(1)
    d.scheduler.configure(Policy.for_step(step_tokens))
    replica = d.scheduler._placing.replicas["r0"]
    before = replica.tokens_per_s
    d.arrive("a.0", 6_000)
    d.now_s += 100.0
    d.first_token("a.0")
    assert (replica.tokens_per_s < before) is learns


# Switches


def test_hold_off_everything_goes_at_once() -> None:
    d = full(Policy(hold=False, recompute_budget=0.0))
    for i in range(5):
        d.arrive(f"a{i}.0", 90_000)
        assert d.admits[f"a{i}.0"].held_s == 0.0
    assert d.scheduler.wake_s is None


def test_hold_off_a_turn_still_goes_where_its_prefix_is() -> None:
    d = Driver(2, Policy(hold=False))
    home = d.serve("a.0", 40_000)
    d.arrive("a.1", 41_000, own=40_000)
    assert d.where("a.1") == home


def test_stay_off_a_turn_goes_where_there_is_room() -> None:
    d = Driver(2, Policy(stay=False))
    home = d.serve("a.0", 40_000)
    d.arrive("c.0", 15_000, shares={"a": 10_000})  # prefill on a's home
    assert d.where("c.0") == home
    d.arrive("a.1", 70_000, own=40_000)
    assert d.where("a.1") != home
    with_stay = Driver(2)
    with_stay.serve("a.0", 40_000)
    with_stay.arrive("c.0", 15_000, shares={"a": 10_000})
    with_stay.arrive("a.1", 70_000, own=40_000)
    assert with_stay.reason("a.1") is Reason.PREFILL


def test_stagger_off_siblings_do_not_wait() -> None:
    d = fan_out(Policy(stagger=False))
    assert not d.waits("sib.0")


@pytest.mark.parametrize(("hints", "away_is_needed"), [(True, False), (False, True)])
def test_hints_say_that_a_session_does_not_come_again(hints: bool, away_is_needed: bool) -> None:
    d = Driver(1, Policy(recompute_budget=0.0, hints=hints))
    d.scheduler.absence._trust["default"] = 1.0
    d.arrive("other.0", 5_000)
    d.first_token("other.0")
    d.serve("a.0", 80_000, declared=ev.Declared(gap_s=None))
    d.arrive("b.0", 60_000)
    assert d.waits("b.0") is away_is_needed


@pytest.mark.parametrize(("hints", "first"), [(True, "short.1"), (False, "long.1")])
def test_hints_of_what_is_left_decide_who_goes_first(hints: bool, first: str) -> None:
    """`short` attained more, and says that it is nearly done."""
    d = full(Policy(recompute_budget=0.0, hints=hints))
    d.seen("r2")
    d.scheduler.absence._trust["default"] = 1.0
    d.scheduler.service._per_s = 1_000.0
    d.serve("short.0", 9_000, human=True)
    d.serve("long.0", 5_000, human=True)
    d.arrive("b2.0", 80_000)
    d.first_token("b2.0")
    d.arrive("long.1", 70_000, declared=ev.Declared(gap_s=1.0, remaining_s=500.0))
    d.arrive("short.1", 70_000, declared=ev.Declared(gap_s=1.0, remaining_s=5.0))
    assert d.waits("long.1")
    assert d.waits("short.1")
    d.seen("r3")
    assert d.order[-1] == first


# Replicas come and go, turns fail


def test_what_a_replica_held_is_lost_with_it() -> None:
    d = Driver(2)
    home = d.serve("a.0", 40_000)
    assert home is not None
    d.do(ev.ReplicaGone(home))
    d.arrive("a.1", 41_000, own=40_000)
    told = d.admits["a.1"]
    assert told.replica not in (home, None)
    assert told.uncached_tokens == 41_000


@pytest.mark.parametrize("last", [ev.Failed("b1.0"), ev.FirstToken("b1.0"), None])
def test_a_replica_that_comes_back_has_nothing_of_what_flew_before(last: ev.Event | None) -> None:
    """Pods of a StatefulSet keep their names; the old one's turns fail, or end, later."""
    d = full()
    d.do(ev.ReplicaGone("r1"))
    d.seen("r1")
    d.arrive("a.0", 60_000)
    assert d.where("a.0") == "r1"
    if last is None:
        d.end("b1.0", output=10)
    else:
        d.do(last)
    assert d.scheduler.ledger.where("b1") == {}
    d.end("a.0")


def test_what_waits_while_no_replica_is_known_goes_to_the_first_that_comes() -> None:
    d = full()
    d.arrive("a.0", 50_000)
    for name in ("r0", "r1"):
        d.do(ev.ReplicaGone(name))
    assert d.waits("a.0")
    d.seen("r9")
    assert d.where("a.0") == "r9"


def test_what_waits_while_no_replica_is_known_goes_when_its_hold_is_over() -> None:
    d = full()
    d.arrive("a.0", 50_000, max_hold_s=20.0)
    for name in ("r0", "r1"):
        d.do(ev.ReplicaGone(name))
    d.run_until(20.0)
    told = d.admits["a.0"]
    assert (told.replica, told.reason, told.held_s) == (None, Reason.ONLY, 20.0)


def test_a_turn_that_was_placed_elsewhere_counts_there() -> None:
    d = Driver(2)
    home = d.serve("a.0", 40_000)
    d.arrive("a.1", 41_000, own=40_000)
    other = "r1" if home == "r0" else "r0"
    d.do(ev.Placed("a.1", other))
    d.first_token("a.1")
    d.end("a.1", output=100)
    assert d.scheduler.ledger.warm("a", other) == 41_100
    d.arrive("a.2", 42_000, own=41_100)
    assert d.where("a.2") == other


@pytest.mark.parametrize("replica", ["r0", "unknown"])
def test_placed_where_it_was_asked_for_or_nowhere_known_changes_nothing(replica: str) -> None:
    d = Driver(1)
    d.arrive("a.0", 10_000)
    d.do(ev.Placed("a.0", replica))
    d.first_token("a.0")
    d.end("a.0")
    assert d.scheduler.ledger.warm("a", "r0") == 10_000


def test_a_held_turn_that_fails_is_forgotten_and_needs_nothing() -> None:
    """The client went away: what its session left in a cache counts less and less again."""
    d = full()
    d.end("b0.0")
    d.arrive("c.0", 90_000)
    assert d.where("c.0") == "r0"
    d.first_token("c.0")
    d.arrive("b0.1", 90_000, own=5_000)
    assert d.waits("b0.1")
    d.do(ev.Failed("b0.1"))
    assert d.scheduler.wake_s is None
    d.run_until(400.0)
    assert d.scheduler.residents.needs("b0", "r0") == 0.0


@pytest.mark.parametrize("started", [True, False])
def test_a_turn_that_fails_makes_room(started: bool) -> None:
    d = Driver(1, STRICT)
    d.arrive("c.0", 95_000)
    if started:
        d.first_token("c.0")
    d.arrive("a.0", 90_000)
    assert d.waits("a.0")
    d.do(ev.Failed("c.0"))
    assert d.where("a.0") == "r0"


def test_a_retry_is_a_turn_of_its_own() -> None:
    d = Driver(1)
    d.serve("a.0", 30_000)
    d.arrive("a.1", 31_000, own=30_000)
    d.do(ev.Failed("a.1"))
    d.arrive("a.1~1", 31_000, own=30_000)
    d.do(ev.FirstToken("a.1"))
    d.first_token("a.1~1")
    d.end("a.1~1", output=100)
    assert d.scheduler.ledger.warm("a", "r0") == 31_100


@pytest.mark.parametrize(
    "event",
    [
        ev.FirstToken("nobody"),
        ev.Failed("nobody"),
        ev.Failed("over.0"),
        ev.FirstToken("over.0"),
        ev.Placed("nobody", "r0"),
        ev.Ended(turn_id="nobody", prompt_tokens=5, output_tokens=5, cached_tokens=5),
        ev.Ended(turn_id="over.0", prompt_tokens=5, output_tokens=5),
        ev.ReplicaGone("nobody"),
        ev.RunEnded("nobody"),
        ev.Tick(),
    ],
    ids=repr,
)
def test_what_comes_late_or_is_not_known_does_nothing(event: ev.Event) -> None:
    d = full()
    d.arrive("over.0", 5_000)
    d.end("over.0", output=5)
    before = d.scheduler.ledger.warm("over", str(d.where("over.0")))
    assert d.do(event) == []
    assert d.scheduler.ledger.warm("over", str(d.where("over.0"))) == before


def test_a_second_first_token_does_nothing() -> None:
    d = full()
    d.first_token("b0.0")
    d.end("b0.0")


def test_two_turns_of_a_session_at_once_keep_it_in_use_until_both_ended() -> None:
    d = Driver(1, STRICT)
    d.arrive("a.0", 80_000)
    d.arrive("a.1", 80_000, own=80_000)
    d.first_token("a.0")
    d.first_token("a.1")
    d.end("a.1")
    d.run_until(STRICT.keep_s + 100.0)
    assert d.scheduler.residents.needs("a", "r0") == 80_000
    d.end("a.0")
    d.run_until(2 * STRICT.keep_s + 200.0)
    assert d.scheduler.residents.needs("a", "r0") == 0.0


def test_one_turn_does_not_arrive_twice() -> None:
    d = Driver(1)
    d.arrive("a.0", 10)
    with pytest.raises(Bug, match="arrived twice"):
        d.scheduler.handle(
            ev.Arrived(ev.Turn(id="a.0", program="p", run="r", session="s", prompt_tokens=1)), 0.0
        )


def test_time_does_not_go_back() -> None:
    d = full()
    d.now_s = 100.0
    d.arrive("a.0", 50_000, max_hold_s=10.0)
    d.now_s = 50.0
    d.arrive("c.0", 50_000, max_hold_s=10.0)
    assert (d.holds["a.0"].until_s, d.holds["c.0"].until_s) == (110.0, 110.0)
    d.tick(109.0)
    assert d.waits("a.0")
    d.tick(110.0)
    assert {"a.0", "c.0"} <= set(d.admits)


def test_a_run_that_ended_leaves_nothing_behind() -> None:
    d = Driver(2)
    for name in ("main", "sub"):
        d.serve(f"{name}.0", 20_000, session=name, run="R")
    d.do(ev.RunEnded("R"))
    assert {one.session for one in d.drops} == {"main", "sub"}
    s = d.scheduler
    assert (len(s.absence), len(s.residents), len(s.service)) == (0, 0, 0)


# What the host does to a turn that waits


def test_a_released_turn_goes_at_once_whatever_it_waits_for() -> None:
    d = full()
    d.arrive("a.0", 50_000)
    assert d.waits("a.0")
    d.do(ev.Released("a.0"))
    assert d.where("a.0") in ("r0", "r1")
    assert d.do(ev.Released("a.0")) == []  # it is on its way


def test_a_turn_that_came_again_has_the_place_and_the_deadline_of_the_first() -> None:
    d = full()
    beside(d)
    d.arrive("a.0", 50_000, max_hold_s=60.0)
    d.arrive("c.0", 50_000, max_hold_s=60.0)
    again = ev.Turn(id="a.0/2", program="default", run="a", session="a", prompt_tokens=50_000)
    d.do(ev.Replaced("a.0", again), at_s=5.0)
    d.end("b1.0")
    d.do(ev.RunEnded("b1"))
    assert d.order[-1] == "a.0/2"  # before c, which came before the second
    assert d.admits["a.0/2"].held_s == 5.0


def test_a_turn_that_came_again_waits_no_longer_than_the_first_would_have() -> None:
    d = full()
    d.arrive("a.0", 50_000, max_hold_s=60.0)
    again = ev.Turn(id="a.0/2", program="default", run="a", session="a", prompt_tokens=50_000)
    d.do(ev.Replaced("a.0", again), at_s=59.0)
    d.run_until(60.0)
    assert d.reason("a.0/2") is Reason.OVERFLOW


def test_a_policy_that_holds_nothing_any_more_is_for_what_comes_after() -> None:
    d = full()
    d.scheduler.configure(Policy(hold=False))
    d.arrive("a.0", 50_000)
    assert not d.waits("a.0")
