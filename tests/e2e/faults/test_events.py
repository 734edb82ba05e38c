"""Check 02 and check 03: what the watches tell is lost, late, doubled or cut off, and a stale view does no damage."""

import time
from collections.abc import Callable

import pytest

from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind
from tests.e2e.apiclient import Manifest
from tests.e2e.localcluster.faultproxy import FaultProxy
from tests.e2e.localcluster.faults import Close, Delay, Drop, EventRule, Repeat, event_of
from tests.e2e.stacks import aggregated, disaggregated, policy, program
from tests.e2e.world import World, edited, metric, reports, wait_until

from .snapshots import first_difference, snapshot

Hire = Callable[..., World]

#: Lists that replace what no event told; a hundred times as often as in production.
OFTEN = {"resync_s": 2.0, "discovery_s": 0.5}


def everything(call: object, event: Manifest) -> bool:
    return event["type"] != "BOOKMARK"


def tell(world: World) -> Manifest:
    """Creation, drift of every sort, an edit, a reference that comes late; the result is how it ended."""
    world.apply(aggregated("chat", replicas=0), program("coding"))
    world.ready("chat")
    world.delete(kinds.SERVICE, "chat")
    world.merge(kinds.DEPLOYMENT, "chat-router", {"spec": {"replicas": 3}})
    world.apply(edited(aggregated("chat", replicas=0), {"spec.kvTierPolicyRef.name": "host"}))
    world.apply(policy("host"))
    world.ready("chat", timeout_s=60)
    world.ready("coding", kinds.PROGRAM, timeout_s=60)
    world.ready("host", kinds.POLICY, timeout_s=60)
    return snapshot(world.api, world.namespace)


def settled_as(world: World, expected: Manifest) -> None:
    wait_until(
        lambda: snapshot(world.api, world.namespace) == expected,
        what="the end of an undisturbed run",
        timeout_s=40,
    )


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Manifest]:
    """How the story ends; filled in by the first test of the table below."""
    return {}


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param((), id="undisturbed"),
        pytest.param((EventRule(match=everything, action=Repeat(times=3)),), id="each-three-times"),
        pytest.param((EventRule(match=everything, action=Drop()),), id="none-at-all"),
        pytest.param(
            (EventRule(match=event_of("agenticservingstacks"), action=Delay(seconds=0.7)),),
            id="children-first",
        ),
        pytest.param(
            (EventRule(match=event_of("deployments"), action=Delay(seconds=0.7)),), id="children-late"
        ),
        pytest.param(
            (EventRule(match=everything, action=Close(), nth=set(range(0, 60, 4))),),
            id="closed-again-and-again",
        ),
        pytest.param(
            (EventRule(match=everything, action=Close(expired=True), nth=set(range(0, 60, 6))),),
            id="410-gone",
        ),
    ],
)
def test_check_02_whatever_becomes_of_events_the_end_is_the_same(
    hire: Hire, proxy: FaultProxy, rule: tuple[EventRule, ...], undisturbed: dict[str, Manifest]
) -> None:
    proxy.plan(*rule)
    world = hire(**OFTEN)
    end = tell(world)
    if not undisturbed:
        assert rule == (), "the undisturbed run comes first"
        time.sleep(2)  # until nothing moves any more
        undisturbed["end"] = snapshot(world.api, world.namespace)
        return
    assert end
    try:
        settled_as(world, undisturbed["end"])
    except AssertionError:
        now = snapshot(world.api, world.namespace)
        pytest.fail(first_difference(undisturbed["end"], now))


@pytest.mark.parametrize("kind", [kinds.DEPLOYMENT, kinds.NETWORK_POLICY, kinds.INFERENCE_POOL], ids=str)
def test_check_02_a_deletion_that_nobody_told_is_found(hire: Hire, proxy: FaultProxy, kind: Kind) -> None:
    """kopf loses what is deleted while a stream is broken (docs/decisions/0001); the list finds it."""
    world = hire(**OFTEN)
    world.apply(aggregated("chat", replicas=0))
    world.ready("chat")
    name = "chat" if kind is kinds.INFERENCE_POOL else "chat-router"
    before = world.get(kind, name)["metadata"]["uid"]
    proxy.plan(EventRule(match=event_of(kind.plural), action=Drop()))
    world.delete(kind, name)
    world.wait(kind, name, lambda obj: obj["metadata"]["uid"] != before, timeout_s=30)


def test_check_02_a_reference_whose_deletion_nobody_told_is_missed(hire: Hire, proxy: FaultProxy) -> None:
    world = hire(**OFTEN)
    world.apply(policy("host"), aggregated("chat", replicas=0, policy="host"))
    world.ready("chat")
    proxy.plan(EventRule(match=event_of("kvtierpolicies"), action=Drop()))
    world.delete(kinds.POLICY, "host")
    world.refused("chat", "PolicyNotFound")


def test_check_03_children_of_a_stack_whose_deletion_was_lost_stay_deleted(
    hire: Hire, proxy: FaultProxy
) -> None:
    """Garbage collection removes the children one by one: each is an event, and none of them is drift."""
    world = hire()
    world.apply(aggregated("chat", replicas=0))
    world.ready("chat")
    world.settled()
    proxy.plan(EventRule(match=event_of("agenticservingstacks", change="DELETED"), action=Drop()))
    mark = world.cluster.mark()
    world.delete(kinds.STACK, "chat")
    wait_until(lambda: not world.children("chat"), what="garbage collection", timeout_s=60)
    world.settled()
    assert world.writes(mark) == []
    assert world.children("chat") == {}


def test_check_03_an_old_view_of_a_stack_brings_nothing_old_back(hire: Hire, proxy: FaultProxy) -> None:
    """The edit is not told; the deletion of a child is. What comes back is what the newest spec asks for."""
    world = hire()
    world.apply(aggregated("chat", replicas=0))
    world.ready("chat")
    world.settled()
    proxy.plan(EventRule(match=event_of("agenticservingstacks"), action=Drop()))
    mark = world.cluster.mark()
    world.apply(disaggregated("chat", prefill=0, decode=0))
    world.delete(kinds.DEPLOYMENT, "chat-engine")
    world.wait(kinds.DEPLOYMENT, "chat-decode", bool)
    world.applied("chat")
    assert world.api.find(kinds.DEPLOYMENT, world.namespace, "chat-engine") is None
    assert [w for w in world.writes(mark) if "chat-engine" in w and w.startswith("patch deployments")] == []


def test_check_03_a_late_event_about_the_past_changes_nothing(hire: Hire, proxy: FaultProxy) -> None:
    """Events of a second ago arrive after lists have told the present."""
    proxy.plan(EventRule(match=event_of("deployments"), action=Delay(seconds=1.0)))
    world = hire(**OFTEN)
    world.apply(aggregated("chat", replicas=1))
    world.ready("chat")
    for replicas in (0, 1, 0):
        world.apply(aggregated("chat", replicas=replicas))
    world.wait(kinds.STACK, "chat", reports("Ready", "True"), timeout_s=60)
    world.settled()
    assert world.get(kinds.DEPLOYMENT, "chat-engine")["spec"]["replicas"] == 0
    assert metric(world.operator.metrics(), "agentic_serving_reconcile_total", result="error") <= 1
