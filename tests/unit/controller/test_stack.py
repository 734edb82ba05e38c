"""controller: one stack from creation to Ready, at rest, edited, broken, repaired."""

import asyncio

import pytest

from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Manifest
from agentic_serving.controller.keys import Key
from agentic_serving.errors import Forbidden, Rejected, Unavailable
from tests.unit.controller.world import NS, World, policy, program, stack

CHILDREN = [
    "ConfigMap/chat-config",
    "Deployment/chat-engine",
    "Deployment/chat-router",
    "PodMonitor/chat",
    "Service/chat",
]


async def ready_world(*objects: Manifest, **options: object) -> World:
    world = await World.with_objects(*(objects or (stack(),)), **options)
    await world.ready()
    return world


def scale(n: int) -> object:
    def change(obj: Manifest) -> None:
        obj["spec"]["topology"]["aggregated"]["replicas"] = n

    return change


async def test_a_stack_becomes_ready_with_one_apply_per_child_and_two_status_writes() -> None:
    world = await World.with_objects(stack())
    assert world.children() == CHILDREN
    assert world.condition(kinds.STACK, "chat", "Ready") == ("False", "ReplicasUnavailable")
    assert world.condition(kinds.STACK, "chat", "Applied") == ("True", "Applied")
    await world.ready()
    assert world.condition(kinds.STACK, "chat", "Ready") == ("True", "Ready")
    writes = world.writes()
    assert sorted(w for w in writes if not w.startswith("apply_status")) == [f"apply {c}" for c in CHILDREN]
    assert writes.count("apply_status AgenticServingStack/chat") == 2


async def test_status_tells_endpoint_roles_and_replicas() -> None:
    world = await ready_world()
    status = world.get(kinds.STACK, "chat")["status"]
    assert status["endpoint"] == "http://chat.team.svc"
    assert status["replicas"] == "2/2"
    assert status["observedGeneration"] == 1
    assert {r["name"]: (r["replicas"], r["ready"]) for r in status["roles"]} == {
        "Aggregated": (2, 2),
        "Router": (1, 1),
    }


async def test_nothing_is_read_or_written_at_rest() -> None:
    """Check 12 of docs/checks.md."""
    world = await ready_world()
    world.cluster.calls.clear()
    for _ in range(5):
        world.leading.queue.add(world.key())
        await world.settle(599)
    assert world.cluster.calls == []


async def test_a_restart_writes_nothing() -> None:
    world = await ready_world(stack(policy="host"), policy(), program())
    await world.settle(120)
    world.writes()
    await world.restart()
    await world.settle(120)
    assert world.writes() == []


async def test_the_lease_and_the_metrics_get_their_turn_between_passes_that_wait_for_nothing() -> None:
    world = await World.with_objects(*(stack(f"chat-{i}") for i in range(20)))
    queue, workers = world.leading.queue, world.leading.workers
    for i in range(20):
        queue.add(Key("AgenticServingStack", NS, f"chat-{i}"))
    working = asyncio.create_task(workers.run(1))
    turns = 0
    while not queue.idle():
        await asyncio.sleep(0)
        turns += 1
    working.cancel()
    assert turns >= 20


async def test_an_edit_changes_only_the_child_that_differs() -> None:
    world = await ready_world()
    world.writes()
    world.edit(kinds.STACK, "chat", scale(3))
    await world.settle()
    assert world.get(kinds.DEPLOYMENT, "chat-engine")["spec"]["replicas"] == 3
    assert world.writes() == ["apply Deployment/chat-engine", "apply_status AgenticServingStack/chat"]
    # Never ahead of reality: two of three replicas were ready a moment ago.
    assert world.condition(kinds.STACK, "chat", "Ready") == ("False", "Progressing")


@pytest.mark.parametrize("kind_name", CHILDREN, ids=str)
async def test_a_deleted_child_comes_back(kind_name: str) -> None:
    """Check 09 of docs/checks.md."""
    world = await ready_world()
    world.writes()
    kind = next(k for k in kinds.ALL_KINDS if k.kind == kind_name.split("/")[0])
    world.cluster.drop(kind, NS, kind_name.split("/")[1])
    await world.settle(2)
    assert world.children() == CHILDREN
    assert f"apply {kind_name}" in world.writes()


async def test_an_edited_child_is_put_right() -> None:
    """Check 09 of docs/checks.md."""
    world = await ready_world()
    world.edit(kinds.DEPLOYMENT, "chat-engine", lambda o: o["spec"].update(replicas=9))
    world.edit(kinds.CONFIG_MAP, "chat-config", lambda o: o["data"].update(programs="forged"))
    world.edit(kinds.SERVICE, "chat", lambda o: o["metadata"].pop("labels"))
    world.edit(kinds.DEPLOYMENT, "chat-router", lambda o: o["metadata"].pop("ownerReferences"))
    await world.settle(2)
    assert world.get(kinds.DEPLOYMENT, "chat-engine")["spec"]["replicas"] == 2
    assert world.get(kinds.CONFIG_MAP, "chat-config")["data"] == {"programs": ""}
    assert world.get(kinds.SERVICE, "chat")["metadata"]["labels"]
    assert world.get(kinds.DEPLOYMENT, "chat-router")["metadata"]["ownerReferences"]


async def test_what_the_plan_no_longer_has_is_deleted_and_nothing_else() -> None:
    world = await ready_world(stack(replicas=6))
    assert "Deployment/chat-overflow" in world.children()
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": NS}}
    world.seed(foreign)
    world.edit(kinds.STACK, "chat", scale(2))
    await world.settle(2)
    assert world.children() == sorted([*CHILDREN, "ConfigMap/mine"])


async def test_nothing_is_deleted_without_a_fresh_lease() -> None:
    """Check 18 and check 19 of docs/checks.md."""
    world = await ready_world(stack(replicas=6))
    world.fresh = False
    world.edit(kinds.STACK, "chat", scale(2))
    await world.settle(2)
    assert "Deployment/chat-overflow" in world.children()
    world.fresh = True
    await world.settle(30)
    assert "Deployment/chat-overflow" not in world.children()


async def test_a_stale_view_of_the_spec_deletes_nothing() -> None:
    """Check 03 of docs/checks.md: the newest spec wants both Deployments, the controller has not heard of it yet."""
    world = await ready_world(stack(replicas=6))
    world.edit(kinds.STACK, "chat", scale(2))
    old = world.events.pop()
    world.edit(kinds.STACK, "chat", scale(6))
    new = world.events.pop()
    world.deliver(*old)
    world.writes()
    await world.settle()
    assert not [w for w in world.writes() if w.startswith("delete")]
    world.deliver(*new)
    await world.settle(2)
    assert "Deployment/chat-overflow" in world.children()


async def test_a_foreign_object_of_the_same_name_is_not_touched() -> None:
    """Check 10 of docs/checks.md."""
    world = World()
    foreign = world.seed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "chat", "namespace": NS},
            "spec": {"ports": [{"port": 1}]},
        }
    )
    world.seed(stack())
    await world.start()
    assert world.get(kinds.SERVICE, "chat") == foreign
    assert world.condition(kinds.STACK, "chat", "Applied") == ("False", "NameConflict")
    assert world.condition(kinds.STACK, "chat", "Ready") == ("False", "NameConflict")
    assert "kubectl delete services chat -n team" in world.message(kinds.STACK, "chat", "Applied")
    assert "Deployment/chat-engine" in world.children()  # the others are applied
    world.cluster.drop(kinds.SERVICE, NS, "chat")
    await world.settle(10)
    await world.ready()
    assert world.condition(kinds.STACK, "chat", "Ready") == ("True", "Ready")


async def test_a_recreated_stack_waits_for_its_predecessors_objects() -> None:
    """Check 04 of docs/checks.md."""
    world = await ready_world()
    world.cluster.drop(kinds.STACK, NS, "chat")
    world.seed(stack())
    await world.settle()
    assert world.condition(kinds.STACK, "chat", "Applied") == ("False", "Progressing")
    assert not [w for w in world.writes() if w.startswith("delete")]
    world.cluster.collect_garbage()
    await world.settle(30)
    await world.ready()
    uid = world.get(kinds.STACK, "chat")["metadata"]["uid"]
    engine = world.get(kinds.DEPLOYMENT, "chat-engine")
    assert engine["metadata"]["ownerReferences"][0]["uid"] == uid
    assert world.condition(kinds.STACK, "chat", "Ready") == ("True", "Ready")


async def test_objects_orphaned_on_purpose_are_taken_up_again() -> None:
    """`kubectl delete --cascade=orphan` keeps the pods; the stack comes back under its name."""
    world = await ready_world()
    for kind in (kinds.DEPLOYMENT, kinds.SERVICE, kinds.CONFIG_MAP, kinds.POD_MONITOR):
        for obj in world.cluster.objects(kind):
            world.edit(kind, obj["metadata"]["name"], lambda o: o["metadata"].pop("ownerReferences"))
    engine = world.get(kinds.DEPLOYMENT, "chat-engine")["metadata"]["uid"]
    world.cluster.drop(kinds.STACK, NS, "chat")
    world.seed(stack())
    await world.settle(10)
    await world.ready()
    assert world.condition(kinds.STACK, "chat", "Ready") == ("True", "Ready")
    assert world.get(kinds.DEPLOYMENT, "chat-engine")["metadata"]["uid"] == engine


async def test_a_deleted_stack_is_left_to_garbage_collection() -> None:
    """Check 11 of docs/checks.md."""
    world = await ready_world()
    world.writes()
    world.cluster.drop(kinds.STACK, NS, "chat")
    await world.settle(60)
    world.cluster.collect_garbage()
    await world.settle(60)
    assert world.children() == []
    assert world.writes() == []


async def test_bad_input_is_told_and_touches_nothing_and_its_repair_needs_no_restart() -> None:
    """Check 06 of docs/checks.md."""
    world = await ready_world()
    before = world.children()
    world.writes()
    world.edit(kinds.STACK, "chat", lambda o: o["spec"]["topology"].update(aggregated=None))
    await world.settle(30)
    assert world.condition(kinds.STACK, "chat", "Accepted")[0] == "False"
    assert world.condition(kinds.STACK, "chat", "Stalled")[0] == "True"
    assert "what ran before keeps running" in world.message(kinds.STACK, "chat", "Ready")
    assert world.children() == before
    assert world.writes() == ["apply_status AgenticServingStack/chat"]
    world.edit(kinds.STACK, "chat", lambda o: o["spec"].update(topology={"aggregated": {"replicas": 2}}))
    await world.settle(2)
    assert world.condition(kinds.STACK, "chat", "Ready") == ("True", "Ready")
    assert world.condition(kinds.STACK, "chat", "Stalled")[0] == "False"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Forbidden("podmonitors is forbidden: cannot patch", code=403), "Forbidden"),
        (Rejected("admission webhook denied", code=400), "Rejected"),
    ],
    ids=["forbidden", "rejected"],
)
async def test_a_refused_kind_degrades_only_its_part(error: Exception, reason: str) -> None:
    """Check 15 of docs/checks.md."""
    world = World()
    world.seed(stack())
    world.cluster.fail_next(error, verb="apply", kind=kinds.POD_MONITOR, times=10_000)
    await world.start()
    await world.ready()
    await world.settle(70)  # what is not prompt may wait a minute
    assert world.children() == [c for c in CHILDREN if not c.startswith("PodMonitor")]
    assert world.condition(kinds.STACK, "chat", "Applied") == ("False", reason)
    assert world.condition(kinds.STACK, "chat", "Available") == ("True", "Available")
    assert str(error) in world.message(kinds.STACK, "chat", "Ready")
    world.cluster.heal()
    await world.settle(600)
    assert world.condition(kinds.STACK, "chat", "Ready") == ("True", "Ready")


async def test_a_hiccup_of_the_api_server_is_not_news() -> None:
    """Check 14 of docs/checks.md."""
    world = World()
    world.seed(stack())
    world.cluster.fail_next(Unavailable("overloaded", code=429, retry_after_s=7), verb="apply")
    await world.start()
    assert world.writes() == ["apply ConfigMap/chat-config"]
    await world.settle(6)
    assert world.writes() == []  # as the server asked
    await world.settle(2)
    assert world.children() == CHILDREN


async def test_an_api_server_that_stays_away_is_told() -> None:
    world = World()
    world.seed(stack())
    world.cluster.fail_next(Unavailable("etcd is gone"), verb="apply", times=10_000)
    await world.start()
    await world.settle(60)
    assert world.condition(kinds.STACK, "chat", "Reconciling") == ("True", "APIUnavailable")
    assert world.condition(kinds.STACK, "chat", "Ready")[0] == "Unknown"


async def test_a_fault_of_ours_is_told_and_stops_nobody_else() -> None:
    from tests.unit.controller.world import small_plan

    def broken(inputs: object) -> object:
        if inputs.stack.metadata.name == "bad":
            raise ZeroDivisionError("oops")
        return small_plan(inputs)

    world = await World.with_objects(stack("bad"), stack("chat"), render=broken)
    assert world.condition(kinds.STACK, "bad", "Reconciling") == ("True", "InternalError")
    assert "Deployment/chat-engine" in world.children()


async def test_zero_replicas_and_back() -> None:
    """Check 08 of docs/checks.md."""
    world = await ready_world()
    world.edit(kinds.STACK, "chat", scale(0))
    await world.settle()
    await world.ready()
    assert world.condition(kinds.STACK, "chat", "Ready") == ("True", "ScaledToZero")
    world.edit(kinds.STACK, "chat", scale(2))
    await world.settle()
    assert world.condition(kinds.STACK, "chat", "Ready")[0] == "False"
    await world.ready()
    assert world.condition(kinds.STACK, "chat", "Ready") == ("True", "Ready")
