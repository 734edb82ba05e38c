"""Checks 18 and 19: two operators, a leader that sleeps through its term, wall clocks that are wrong.

Each operator has a proxy of its own: that is how its calls are told apart.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import ApiClient
from tests.e2e.localcluster.calls import matching
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.faultproxy import FaultProxy
from tests.e2e.stacks import aggregated, disaggregated, program
from tests.e2e.world import World, identities, metric, wait_until

from .operators import FAST, ForkServer, Operator

#: A fifth of the usual times; the ratios are the same.
TERMS = {"lease_duration_s": 3.0, "renew_deadline_s": 2.0, "retry_period_s": 0.4}
#: Takeover of a lease that nobody gives back: its duration, a retry, and what a busy machine adds.
_TAKEOVER_S = 15.0


@dataclass
class Rival:
    """An operator and the proxy that sees its calls."""

    operator: Operator
    proxy: FaultProxy

    @property
    def leads(self) -> bool:
        try:
            return metric(self.operator.metrics(), "agentic_serving_leader") == 1
        except OSError:
            return False  # it ended

    def writes(self) -> list[str]:
        return [str(one.call) for one in self.proxy.seen(matching(writes_only=True))]


Rivals = Callable[..., Rival]


@pytest.fixture
def rivals(plane: ControlPlane, forks: ForkServer, team: str) -> Iterator[Rivals]:
    """Starts operators that compete for one lease: `rivals("operator-0")`."""
    with ExitStack() as stack:

        def start(name: str, **settings: object) -> Rival:
            proxy = stack.enter_context(FaultProxy(plane))
            given = {
                **FAST,
                "namespaces": [team],
                "leader_election": True,
                "lease_name": team,
                **TERMS,
                **settings,
            }
            operator = Operator(forks, plane, via=proxy, name=name, **given)
            stack.callback(operator.kill)
            operator.start()
            return Rival(operator, proxy)

        yield start


def world_of(rival: Rival, plane: ControlPlane, api: ApiClient, team: str) -> World:
    return World(cluster=plane, operator=rival.operator, namespace=team, api=api)


def test_check_18_a_killed_leader_is_followed_by_the_standby(
    rivals: Rivals, plane: ControlPlane, api: ApiClient, team: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = rivals("operator-0")
    wait_until(lambda: first.leads, what="the first to lead")
    second = rivals("operator-1")
    world = world_of(second, plane, api, team)
    world.apply(aggregated("chat", replicas=0))
    world.ready("chat")
    assert (first.leads, second.leads) == (True, False)
    assert second.writes() == []
    first.operator.kill()
    killed_s = time.monotonic()
    world.delete(kinds.SERVICE, "chat")
    world.wait(kinds.SERVICE, "chat", bool, timeout_s=_TAKEOVER_S)
    took_s = time.monotonic() - killed_s
    with capsys.disabled():
        print(
            f"\ntakeover after SIGKILL: {took_s:.1f} s with a lease of {TERMS['lease_duration_s']:.0f} s",
            end=" ",
        )
    assert second.leads


def test_check_18_a_leader_that_stops_gives_the_lease_back(
    rivals: Rivals, plane: ControlPlane, api: ApiClient, team: str
) -> None:
    """A rollout of the operator costs a retry period, not the lease's duration."""
    first = rivals("operator-0", lease_duration_s=60.0, renew_deadline_s=40.0)
    wait_until(lambda: first.leads, what="the first to lead")
    second = rivals("operator-1", lease_duration_s=60.0, renew_deadline_s=40.0)
    assert first.operator.stop() == 0
    wait_until(lambda: second.leads, what="the second to lead", timeout_s=_TAKEOVER_S)


def test_check_18_a_leader_that_slept_through_its_term_does_no_damage(
    rivals: Rivals, plane: ControlPlane, api: ApiClient, team: str
) -> None:
    """It wakes up believing that it leads, with a view of the past and work of the past in its queue."""
    old = rivals("operator-0")
    wait_until(lambda: old.leads, what="the first to lead")
    new = rivals("operator-1")
    world = world_of(new, plane, api, team)
    world.apply(aggregated("chat", replicas=0), program("coding"))
    world.ready("chat")
    old.operator.signal(signal.SIGSTOP)
    wait_until(lambda: new.leads, what="a takeover", timeout_s=_TAKEOVER_S)
    world.apply(disaggregated("chat", prefill=0, decode=0))
    world.ready("chat")
    world.settled()
    before = identities(world.children("chat"))
    old.proxy.forget()
    mark = plane.mark()
    old.operator.signal(signal.SIGCONT)
    assert old.operator.wait_exit() == 1
    world.settled()
    assert old.writes() == []
    assert world.writes(mark) == []
    assert identities(world.children("chat")) == before
    assert new.leads


def test_check_18_two_that_both_act_agree(
    rivals: Rivals, plane: ControlPlane, api: ApiClient, team: str
) -> None:
    """No election at all, for as long as it takes: they apply the same objects, and neither undoes the other's."""
    pair = [rivals(f"operator-{i}", leader_election=False) for i in range(2)]
    world = world_of(pair[0], plane, api, team)
    mark = plane.mark()
    world.apply(aggregated("chat", replicas=0), program("coding"))
    world.ready("chat")
    first = identities(world.children("chat"))
    world.apply(disaggregated("chat", prefill=0, decode=0))
    world.ready("chat")
    world.apply(aggregated("chat", replicas=0))
    world.ready("chat")
    for rival in pair:
        world_of(rival, plane, api, team).settled()
    last = identities(world.children("chat"))
    stable = {k for k in first if k.split("/")[0] not in ("Deployment", "ConfigMap")}
    assert {k: last[k][0] for k in stable} == {k: first[k][0] for k in stable}
    deleted = [w for w in world.writes(mark) if w.startswith("delete ") and "-> 200" in w]
    assert len(deleted) == len(set(deleted)), "something was deleted twice"
    at_rest = plane.mark()
    time.sleep(2)
    assert world.writes(at_rest) == []


@pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0], ids=["behind", "ahead"])
def test_check_19_wrong_wall_clocks_neither_steal_nor_keep_a_lease(
    rivals: Rivals, plane: ControlPlane, api: ApiClient, team: str, ahead_s: float
) -> None:
    """Terms are counted by how long a record stays unchanged, not by the times written in it."""
    first = rivals("operator-0")
    wait_until(lambda: first.leads, what="the first to lead")
    second = rivals("operator-1", clock_ahead_s=ahead_s)
    deadline_s = time.monotonic() + 2 * TERMS["lease_duration_s"]
    while time.monotonic() < deadline_s:
        assert (first.leads, second.leads) == (True, False)
        time.sleep(0.2)
    first.operator.kill()
    wait_until(lambda: second.leads, what="a takeover", timeout_s=_TAKEOVER_S)
    world = world_of(second, plane, api, team)
    world.apply(aggregated("chat", replicas=0))
    world.ready("chat")
    world.settled()
    mark = plane.mark()
    third = rivals("operator-2")  # with a right clock, over statuses of a wrong one
    second.operator.kill()
    wait_until(lambda: third.leads, what="a second takeover", timeout_s=_TAKEOVER_S)
    world_of(third, plane, api, team).settled()
    assert world.writes(mark) == []
