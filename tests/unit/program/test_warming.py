"""program.warming: when a prefix is computed on a further replica, by a sibling that waits or by a warm-up, and when not.

Replicas hold 100,000 tokens and compute 15,000 a second; a turn beside costs an answer 0.032 s (both until measured). So 40,000
tokens cost 2.67 s. Declared siblings must save half of that: 16 of them save 4.1 s on two replicas, and a new program is believed
half. Siblings that wait must save twice as much, before one of them computes what it could wait for.
"""

from dataclasses import replace

import pytest

from agentic_serving.program import events as ev
from agentic_serving.program.events import Reason
from agentic_serving.program.policy import Policy
from tests.unit.program.scheduling import Driver

POLICY = Policy(recompute_budget=0.0)
PREFIX = 40_000


def forked(n: int = 16, n_replicas: int = 2, policy: Policy = POLICY, tokens: int = PREFIX) -> Driver:
    """A parent of so many children is being computed on r0 or so."""
    d = Driver(n_replicas, policy)
    d.arrive("p.0", tokens, fork=n)
    return d


def child(d: Driver, name: str, *, of: str = "p", own: int = 500) -> None:
    d.arrive(f"{name}.0", PREFIX + own, run=of, shares={of: PREFIX})


def ended(d: Driver, warm: ev.Warm, *, cached: int = 0) -> None:
    d.do(ev.Ended(turn_id=warm.id, prompt_tokens=PREFIX, output_tokens=1, cached_tokens=cached))


def test_a_declared_fork_that_is_wide_enough_is_computed_on_a_further_replica_at_the_same_time() -> None:
    d = forked()
    assert d.where("p.0") == "r0"
    assert d.warms == [ev.Warm(turn_id="p.0", replica="r1", uncached_tokens=PREFIX, siblings=16)]


@pytest.mark.parametrize(
    ("n", "n_replicas", "warms"),
    [(0, 4, 0), (8, 4, 0), (16, 4, 1), (32, 4, 3), (1_000, 1, 0)],
    ids=["no fork", "narrow", "two replicas are enough", "wide", "nowhere else to go"],
)
def test_so_many_replicas_as_the_siblings_are_worth(n: int, n_replicas: int, warms: int) -> None:
    assert len(forked(n, n_replicas).warms) == warms


@pytest.mark.parametrize(
    "policy",
    [replace(POLICY, warm_up=False), replace(POLICY, hints=False), replace(POLICY, warm_gain=5.0)],
    ids=["switch", "hints are not used", "price"],
)
def test_none_where_the_policy_says_so(policy: Policy) -> None:
    assert not forked(policy=policy).warms


def test_what_sessions_will_need_again_is_not_evicted_for_it() -> None:
    d = Driver(2, POLICY)
    d.arrive("b.0", 80_000)
    d.first_token("b.0")
    d.arrive("p.0", PREFIX, fork=1_000)
    assert (d.where("b.0"), d.where("p.0"), d.warms) == ("r0", "r1", [])


def test_a_replica_that_computes_another_prompt_is_not_asked() -> None:
    d = Driver(2, POLICY)
    d.arrive("b.0", 30_000)
    d.arrive("p.0", PREFIX, fork=1_000)
    assert (d.where("b.0"), d.where("p.0"), d.warms) == ("r0", "r1", [])


def test_children_find_the_prefix_on_both() -> None:
    d = forked()
    ended(d, d.warms[0])
    d.first_token("p.0")
    d.end("p.0", output=100)
    for i in range(8):
        child(d, f"c{i}")
    assert {d.reason(f"c{i}.0") for i in range(8)} == {Reason.WARM}
    assert [sum(d.where(f"c{i}.0") == r for i in range(8)) for r in ("r0", "r1")] == [4, 4]


def test_children_wait_for_a_warm_up_as_for_a_sibling_where_nothing_else_has_the_prefix() -> None:
    d = forked()
    d.do(ev.Failed("p.0"))  # its replica died, say
    child(d, "c")
    assert d.waits("c.0")
    ended(d, d.warms[0])
    assert (d.where("c.0"), d.reason("c.0"), d.admits["c.0"].uncached_tokens) == ("r1", Reason.WARM, 500)


def test_one_that_fails_leaves_nothing_behind() -> None:
    d = forked()
    d.do(ev.Failed(d.warms[0].id))
    assert dict(d.scheduler.ledger.where("p")) == {"r0": PREFIX}
    d.arrive("b.0", 90_000)
    assert (d.where("b.0"), d.reason("b.0")) == ("r1", Reason.ROOM)


def test_it_is_no_turn_of_the_session() -> None:
    """Its tokens are nobody's attained service, and the session is not away when it ends."""
    d = forked()
    ended(d, d.warms[0])
    assert (d.scheduler.service.attained("p"), len(d.scheduler.absence)) == (0, 0)


def test_a_program_whose_children_never_come_is_not_believed_for_long() -> None:
    d = Driver(2, POLICY)
    for i in range(60):
        d.now_s = 300.0 * i
        d.serve(f"p{i}.0", PREFIX, fork=16)
        for warm in d.warms[-1:]:
            ended(d, warm)
        d.do(ev.RunEnded(f"p{i}"))
    assert len(d.warms) < 20
    assert not [one for one in d.warms if int(one.turn_id[1:-2]) >= 20]


def test_one_whose_children_come_is_believed_more() -> None:
    """So that eleven are enough, of whom at first too few would have been expected."""
    d = Driver(2, POLICY)
    for i in range(20):
        d.now_s = 300.0 * i
        d.serve(f"p{i}.0", PREFIX, fork=11, output=400)
        for warm in d.warms[-1:]:
            ended(d, warm)
        for j in range(11):
            d.serve(f"c{i}-{j}.0", PREFIX + 500, run=f"p{i}", shares={f"p{i}": PREFIX}, output=400)
        d.do(ev.RunEnded(f"p{i}"))
    turns = [one.turn_id for one in d.warms]
    assert turns
    assert turns[0] != "p0.0"
    assert turns[-1] == "p19.0"


def test_of_siblings_that_wait_one_goes_ahead_elsewhere_when_there_are_enough() -> None:
    d = Driver(2, POLICY)
    for i in range(24):
        d.arrive(f"c{i}.0", PREFIX, run="p", shares={"c0": PREFIX - 500} if i else {})
    ahead = [f"c{i}.0" for i in range(1, 24) if not d.waits(f"c{i}.0")]
    assert [(d.where(one), d.reason(one)) for one in ahead] == [("r1", Reason.SPREAD)]
    assert 15 < int(ahead[0][1:-2]) < 21


def test_with_the_switch_off_all_wait_for_the_first() -> None:
    d = Driver(2, replace(POLICY, spread=False))
    for i in range(24):
        d.arrive(f"c{i}.0", PREFIX, run="p", shares={"c0": PREFIX - 500} if i else {})
    assert all(d.waits(f"c{i}.0") for i in range(1, 24))
