"""The operator stops and comes back: what happened meanwhile is made good, and what is right is left alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from agentic_serving.cluster import kinds
from tests.e2e.operator.test_lifecycle import assert_gone
from tests.e2e.stacks import aggregated, disaggregated, policy, program
from tests.e2e.world import World, edited, identities


@contextmanager
def away(world: World) -> Iterator[None]:
    """The operator is down inside the block, and has caught up after it."""
    assert world.operator.stop() == 0
    yield
    world.operator.start()
    world.settled()


def test_check_20_a_restart_writes_nothing(world: World) -> None:
    """Check 20 (and check 12): output is the same in another process, with other hash seeds and orders of arrival."""
    world.apply(aggregated("chat", policy="host"), policy("host"), program("coder"), program("writer"))
    world.apply(disaggregated("split"))
    for name in ("chat", "split"):
        world.ready(name)
    for name in ("coder", "writer"):
        world.ready(name, kinds.PROGRAM)
    world.settled()
    before = identities(world.children("chat") | world.children("split"))
    mark = world.cluster.mark()
    with away(world):
        pass
    assert world.writes(mark) == []
    assert identities(world.children("chat") | world.children("split")) == before


def test_check_11_deleted_while_the_operator_is_down(world: World) -> None:
    """Check 11: no finalizer waits for somebody who is away."""
    world.apply(aggregated("chat"))
    world.ready("chat")
    with away(world):
        world.delete(kinds.STACK, "chat")
        assert_gone(world, "chat")
    assert world.children("chat") == {}


def test_check_04_replaced_while_the_operator_is_down(world: World) -> None:
    """Check 04: the same name, another uid, and the operator saw neither the end nor the beginning."""
    world.apply(aggregated("chat"))
    first = world.ready("chat")["metadata"]["uid"]
    with away(world):
        world.delete(kinds.STACK, "chat")
        world.api.wait_gone(kinds.STACK, world.namespace, "chat")
        world.apply(aggregated("chat", replicas=2))
    second = world.ready("chat")
    assert second["metadata"]["uid"] != first
    assert second["status"]["replicas"] == "2/2"


def test_check_02_edits_and_drift_while_the_operator_is_down(world: World) -> None:
    """Check 02: events that nobody heard. A spec edited, a child deleted, a child edited, a policy that came."""
    world.apply(aggregated("chat"))
    world.ready("chat")
    wanted = world.wishes("chat")
    with away(world):
        world.delete(kinds.SERVICE, "chat")
        world.merge(kinds.DEPLOYMENT, "chat-engine", {"spec": {"replicas": 5}})
        world.apply(edited(aggregated("later"), {"spec.kvTierPolicyRef.name": "host"}), policy("host"))
    world.ready("later")
    world.ready("chat")
    assert world.wishes("chat") == wanted
