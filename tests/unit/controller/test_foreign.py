"""controller: what looks like ours and is not."""

import copy

from agentic_serving.cluster import kinds
from tests.unit.controller.world import World, stack


async def test_check_10_a_copy_of_our_labels_makes_nothing_ours() -> None:
    world = await World.with_objects(stack())
    ours = world.get(kinds.CONFIG_MAP, "chat-config")
    copied = {
        **copy.deepcopy(ours),
        "metadata": {"name": "mine", "namespace": "team", "labels": ours["metadata"]["labels"]},
    }
    mine = world.seed(copied)
    world.edit(kinds.STACK, "chat", lambda o: o["spec"]["topology"]["aggregated"].update(replicas=3))
    await world.settle(720)
    assert world.cluster.peek(kinds.CONFIG_MAP, "team", "mine") == mine
