"""controller: decisions from an old view. What the cache holds may be past; nothing old is made, nothing new lost."""

from agentic_serving.cluster import kinds
from tests.unit.controller.world import NS, World, policy, program, stack


async def test_check_03_a_stack_whose_deletion_was_lost_gets_no_children_again() -> None:
    world = await World.with_objects(policy(), stack(policy="host"))
    await world.ready()
    world.writes()
    world.cluster.drop(kinds.STACK, NS, "chat")
    world.events.clear()
    world.cluster.collect_garbage()
    await world.settle(120)
    assert [w for w in world.writes() if "KVTierPolicy" not in w] == []
    assert world.children() == []
    # Who depended on it knows, although only the children's events told.
    assert "attachedStacks" not in world.get(kinds.POLICY, "host")["status"]


async def test_check_03_an_edit_that_no_event_told_is_what_a_lost_child_comes_back_as() -> None:
    world = await World.with_objects(stack(replicas=6))
    await world.ready()
    world.edit(kinds.STACK, "chat", lambda o: o["spec"].update(topology={"aggregated": {"replicas": 2}}))
    world.events.clear()
    world.cluster.drop(kinds.DEPLOYMENT, NS, "chat-overflow")
    await world.settle(120)
    assert "Deployment/chat-overflow" not in world.children()
    assert world.get(kinds.DEPLOYMENT, "chat-engine")["spec"]["replicas"] == 2


async def test_check_03_an_edit_first_seen_in_the_answer_to_a_status_write_is_not_lost() -> None:
    world = await World.with_objects(policy(), stack())
    world.pods_ready()
    world.deliver_all()
    # The edit comes between the read and the status write of this pass; its event comes after both.
    world.edit(kinds.STACK, "chat", lambda o: o["spec"].update(kvTierPolicyRef={"name": "host"}))
    late, world.events[:] = list(world.events), []
    await world.settle(2)
    world.events.extend(late)
    await world.settle(120)
    assert world.get(kinds.POLICY, "host")["status"]["attachedStacks"] == ["chat"]
    assert world.get(kinds.STACK, "chat")["status"]["observedGeneration"] == 2


async def test_check_18_a_leader_whose_term_is_over_writes_nothing() -> None:
    world = await World.with_objects(stack(), program())
    await world.ready()
    world.writes()
    world.fresh = False
    world.edit(kinds.STACK, "chat", lambda o: o["spec"].update(topology={"aggregated": {"replicas": 6}}))
    world.edit(kinds.PROGRAM, "coding", lambda o: o["spec"]["agents"][0].update(name="other"))
    world.cluster.drop(kinds.SERVICE, NS, "chat")
    await world.settle(30)
    assert world.writes() == []
    world.fresh = True
    await world.settle(30)
    assert {"Deployment/chat-overflow", "Service/chat"} <= set(world.children())
