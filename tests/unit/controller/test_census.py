"""controller.census: what was missed is found again, and what cannot be read is left out.

Check 02 and check 15 of docs/checks.md.
"""

import pytest

from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind
from agentic_serving.errors import Forbidden, NotFound, Unavailable
from agentic_serving.render.emitted import EMITTED_KINDS
from tests.unit.controller.world import NS, World, policy, stack

OPTIONAL = (kinds.POD_MONITOR, kinds.HTTP_ROUTE)


def without(*missing: Kind) -> tuple[Kind, ...]:
    return tuple(k for k in kinds.ALL_KINDS if k not in missing)


async def test_a_deletion_that_nobody_told_is_found() -> None:
    world = await World.with_objects(stack(), stack("gone"))
    world.cluster.drop(kinds.DEPLOYMENT, NS, "chat-engine")
    world.cluster.drop(kinds.STACK, NS, "gone")
    world.events.clear()
    await world.settle(30)
    assert "Deployment/chat-engine" not in world.children()
    await world.leading.census.look(everything=True)
    await world.settle()
    assert "Deployment/chat-engine" in world.children()
    assert world.leading.store.get(kinds.STACK, NS, "gone") is None


async def test_a_change_that_nobody_told_is_found() -> None:
    world = await World.with_objects(stack())
    world.edit(kinds.STACK, "chat", lambda o: o["spec"]["topology"]["aggregated"].update(replicas=3))
    world.events.clear()
    await world.settle(700)
    assert world.get(kinds.DEPLOYMENT, "chat-engine")["spec"]["replicas"] == 3


async def test_a_status_that_somebody_overwrote_is_put_right() -> None:
    world = await World.with_objects(stack())
    await world.ready()
    world.edit(kinds.STACK, "chat", lambda o: o["status"].update(endpoint="http://evil", replicas="9/9"))
    await world.settle(800)
    assert world.get(kinds.STACK, "chat")["status"]["endpoint"] == "http://chat.team.svc"


async def test_a_kind_installed_later_is_used() -> None:
    world = await World.with_objects(stack(), served=without(kinds.POD_MONITOR))
    assert "PodMonitor/chat" not in world.children()
    assert kinds.POD_MONITOR not in world.leading.census.watch_plan().selectors
    world.cluster.serve(kinds.POD_MONITOR)
    world.leading.census.changed.clear()
    await world.leading.census.look()
    await world.settle()
    assert "PodMonitor/chat" in world.children()
    assert kinds.POD_MONITOR in world.leading.census.watch_plan().selectors
    assert world.leading.census.changed.is_set()


async def test_a_kind_that_is_removed_is_no_longer_watched_nor_rendered() -> None:
    world = await World.with_objects(stack())
    world.cluster.serve(kinds.POD_MONITOR, served=False)
    await world.leading.census.look()
    await world.settle(5)
    await world.ready()
    assert kinds.POD_MONITOR not in world.leading.census.watch_plan().selectors
    assert world.condition(kinds.STACK, "chat", "Applied") == ("True", "Applied")


async def test_a_child_kind_that_may_not_be_read_is_left_out_and_tried_again() -> None:
    world = World()
    world.seed(stack())
    world.cluster.fail_next(Forbidden("no", code=403), verb="list", kind=kinds.HTTP_ROUTE)
    await world.start()
    assert kinds.HTTP_ROUTE not in world.leading.census.watch_plan().selectors
    assert "Deployment/chat-engine" in world.children()
    await world.leading.census.look()
    assert kinds.HTTP_ROUTE in world.leading.census.watch_plan().selectors


@pytest.mark.parametrize("kind", [kinds.STACK, kinds.PROGRAM, kinds.POLICY], ids=str)
async def test_without_one_of_our_own_kinds_nothing_starts(kind: Kind) -> None:
    """To render stacks without their programs would take the programs away."""
    world = World(served=without(kind))
    with pytest.raises(NotFound, match=str(kind)):
        await world.start()
    forbidden = World()
    forbidden.cluster.fail_next(Forbidden("no", code=403), verb="list", kind=kind)
    with pytest.raises(Forbidden):
        await forbidden.start()


async def test_a_look_that_fails_changes_nothing() -> None:
    world = await World.with_objects(stack(policy="host"), policy())
    before = len(world.leading.store)
    world.cluster.fail_next(Unavailable("away"), verb="served")
    await world.leading.census.look(everything=True)
    world.cluster.fail_next(Unavailable("away"), verb="list", kind=kinds.POLICY)
    await world.leading.census.look(everything=True)
    assert len(world.leading.store) == before


async def test_only_our_children_are_asked_for() -> None:
    world = await World.with_objects(stack())
    selectors = world.leading.census.watch_plan().selectors
    assert set(selectors) == {kinds.STACK, kinds.PROGRAM, kinds.POLICY, *EMITTED_KINDS}
    assert selectors[kinds.STACK] == ""
    assert {selectors[k] for k in EMITTED_KINDS} == {"app.kubernetes.io/managed-by=agentic-serving"}


async def test_namespaces_bound_what_is_read() -> None:
    elsewhere = stack("other")
    elsewhere["metadata"]["namespace"] = "elsewhere"
    world = await World.with_objects(stack(), elsewhere, settings={"namespaces": (NS,)})
    assert world.leading.store.keys(kinds.STACK) == [(NS, "chat")]
    assert world.leading.census.watch_plan().namespaces == (NS,)
    assert not any(o["metadata"]["namespace"] == "elsewhere" for o in world.cluster.objects(kinds.DEPLOYMENT))


async def test_events_dropped_repeated_and_reordered_change_nothing_in_the_end() -> None:
    """Check 02 of docs/checks.md."""
    world = await World.with_objects(stack())
    for n in (3, 4, 5, 2):
        world.edit(kinds.STACK, "chat", lambda o, n=n: o["spec"]["topology"]["aggregated"].update(replicas=n))
    events = list(world.events)
    world.events[:] = [*reversed(events), events[0], events[0], *events[:2]]
    world.writes()
    await world.settle(5)
    assert world.get(kinds.DEPLOYMENT, "chat-engine")["spec"]["replicas"] == 2
    # Nor on the way: two replicas were there all along, and no pod is to come and go for what is past.
    assert "apply Deployment/chat-engine" not in world.writes()
