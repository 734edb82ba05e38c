"""controller: programs and policies, in any order with their stacks, and who wakes whom."""

import pytest

from agentic_serving.api.capability import Capability
from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Manifest
from agentic_serving.controller.policy import worst
from agentic_serving.controller.queue import Lane
from agentic_serving.render.inputs import RenderInputs
from agentic_serving.render.plan import Plan
from agentic_serving.render.programs import ProgramOutcome
from tests.unit.controller.world import NS, World, policy, program, small_plan, stack

ORDERS = {
    "stack first": ["stack", "policy", "program"],
    "program first": ["program", "policy", "stack"],
    "policy last": ["stack", "program", "policy"],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
async def test_any_order_ends_ready(order: list[str]) -> None:
    world = await World.with_objects()
    objects = {"stack": stack(policy="host"), "policy": policy(), "program": program()}
    for name in order:
        world.seed(objects[name])
        await world.settle(5)
    await world.ready()
    await world.settle(70)  # which stacks are attached is not prompt
    for kind, name in ((kinds.STACK, "chat"), (kinds.PROGRAM, "coding"), (kinds.POLICY, "host")):
        assert world.condition(kind, name, "Ready")[0] == "True"
    assert world.get(kinds.CONFIG_MAP, "chat-config")["data"] == {"programs": "coding"}
    assert world.get(kinds.POLICY, "host")["status"]["attachedStacks"] == ["chat"]
    assert world.get(kinds.POLICY, "host")["status"]["attachedStacksTotal"] == 1


async def test_a_missing_policy_is_named_and_nothing_is_touched() -> None:
    world = await World.with_objects(stack())
    await world.ready()
    before = world.children()
    world.edit(kinds.STACK, "chat", lambda o: o["spec"].update(kvTierPolicyRef={"name": "nope"}))
    await world.settle(5)
    assert world.condition(kinds.STACK, "chat", "Accepted") == ("False", "PolicyNotFound")
    assert world.condition(kinds.STACK, "chat", "Stalled")[0] == "False"  # it may yet come
    assert "KVTierPolicy nope does not exist" in world.message(kinds.STACK, "chat", "Ready")
    assert world.children() == before


async def test_an_invalid_policy_holds_its_stacks_back_and_says_so_itself() -> None:
    bad = policy()
    bad["spec"] = {"onUnsupported": "Warn"}
    world = await World.with_objects(bad, stack(policy="host"))
    assert world.condition(kinds.STACK, "chat", "Accepted") == ("False", "PolicyNotAccepted")
    assert world.condition(kinds.POLICY, "host", "Accepted")[0] == "False"
    assert world.condition(kinds.POLICY, "host", "Stalled")[0] == "True"
    world.edit(kinds.POLICY, "host", lambda o: o.update(spec=policy()["spec"]))
    await world.settle(5)
    await world.ready()
    assert world.condition(kinds.STACK, "chat", "Ready")[0] == "True"


async def test_a_policy_without_stacks_is_enforced_nowhere() -> None:
    world = await World.with_objects(policy())
    assert world.condition(kinds.POLICY, "host", "Enforced") == ("Unknown", "NoStacks")
    assert world.condition(kinds.POLICY, "host", "Ready")[0] == "True"


def without_tier(inputs: RenderInputs) -> Plan:
    """As `small_plan`, on an engine that has no tier for stacks named `cpu`."""
    plan = small_plan(inputs)
    if inputs.stack.metadata.name != "cpu":
        return plan
    lacks = Capability(intent="HostMemoryTier", role="Aggregated", state="Unsupported", reason="no device")
    return Plan(**{f: getattr(plan, f) for f in plan.__slots__} | {"capabilities": (lacks,)})


async def test_a_policy_names_the_stack_that_does_not_carry_it_out() -> None:
    world = await World.with_objects(
        policy(), stack(policy="host"), stack("cpu", policy="host"), render=without_tier
    )
    await world.settle(5)
    assert world.condition(kinds.POLICY, "host", "Enforced") == ("False", "PartiallyEnforced")
    assert "cpu: HostMemoryTier is Unsupported: no device" in world.message(kinds.POLICY, "host", "Enforced")
    capabilities = world.get(kinds.POLICY, "host")["status"]["capabilities"]
    assert [c["state"] for c in capabilities] == ["Unsupported"]
    world.cluster.drop(kinds.STACK, NS, "cpu")
    await world.settle(65)
    assert world.condition(kinds.POLICY, "host", "Enforced") == ("True", "Enforced")
    assert world.get(kinds.POLICY, "host")["status"]["attachedStacksTotal"] == 1


def test_the_worst_state_of_each_intent_counts() -> None:
    def make(intent: str, state: str) -> Capability:
        return Capability(intent=intent, role="Aggregated", state=state)  # type: ignore[arg-type]

    found = worst(
        [make("B", "Supported"), make("A", "Approximated"), make("A", "Unsupported"), make("A", "Supported")]
    )
    assert [(c.intent, c.state) for c in found] == [("A", "Unsupported"), ("B", "Supported")]


async def test_a_program_of_an_unknown_stack_waits_for_it() -> None:
    world = await World.with_objects(program(stacks=("chat", "gone")), stack())
    assert world.condition(kinds.PROGRAM, "coding", "Accepted") == ("False", "StackNotFound")
    assert "gone" in world.message(kinds.PROGRAM, "coding", "Accepted")
    world.seed(stack("gone"))
    await world.settle(5)
    await world.ready()
    await world.settle(5)
    assert world.condition(kinds.PROGRAM, "coding", "Ready") == ("True", "Ready")


async def test_a_program_is_ready_only_while_the_router_is() -> None:
    world = await World.with_objects(program(), stack())
    await world.settle(5)
    assert world.condition(kinds.PROGRAM, "coding", "Ready") == ("False", "RouterUnavailable")
    await world.ready()
    await world.settle(5)
    assert world.condition(kinds.PROGRAM, "coding", "Ready") == ("True", "Ready")
    assert world.condition(kinds.PROGRAM, "coding", "SLOMet") == ("Unknown", "Pending")
    world.edit(kinds.DEPLOYMENT, "chat-router", lambda o: o["status"].pop("readyReplicas"))
    await world.settle(5)
    assert world.condition(kinds.PROGRAM, "coding", "Ready") == ("False", "RouterUnavailable")


async def test_an_invalid_program_is_left_out_of_the_stack() -> None:
    bad = program("bad")
    bad["spec"]["match"] = {}
    world = await World.with_objects(program(), bad, stack())
    assert world.get(kinds.CONFIG_MAP, "chat-config")["data"] == {"programs": "coding"}
    assert world.condition(kinds.PROGRAM, "bad", "Accepted")[0] == "False"
    assert world.get(kinds.STACK, "chat")["status"]["programs"] == {"attached": 1}


def refusing(inputs: RenderInputs) -> Plan:
    """As `small_plan`, but the router cannot carry out the match of `bad`, and `coding` overlaps with it."""
    plan = small_plan(inputs)
    outcomes = tuple(
        ProgramOutcome(
            namespace=p.namespace, name=p.name, accepted=p.name != "bad",
            reason="InvalidMatch" if p.name == "bad" else "Accepted", message="not RE2",
            overlaps=() if p.name == "bad" else ("team/bad",),
        )
        for p in plan.programs
    )  # fmt: skip
    return Plan(**{f: getattr(plan, f) for f in plan.__slots__} | {"programs": outcomes})


async def test_what_the_router_makes_of_programs_is_told() -> None:
    world = await World.with_objects(program(), program("bad"), stack(), render=refusing)
    await world.settle(5)
    assert world.condition(kinds.PROGRAM, "bad", "Accepted") == ("False", "InvalidMatch")
    assert world.condition(kinds.PROGRAM, "coding", "Overlapping") == ("True", "MatchOverlap")
    assert "team/bad" in world.message(kinds.PROGRAM, "coding", "Overlapping")


async def test_a_deleted_program_leaves_the_stack() -> None:
    world = await World.with_objects(program(), stack())
    world.cluster.drop(kinds.PROGRAM, NS, "coding")
    await world.settle(5)
    assert world.get(kinds.CONFIG_MAP, "chat-config")["data"] == {"programs": ""}


async def test_a_hiccup_of_a_stack_does_not_flip_its_programs() -> None:
    from agentic_serving.errors import Unavailable

    world = await World.with_objects(program(), stack())
    await world.ready()
    await world.settle(5)
    world.writes()
    world.cluster.fail_next(Unavailable("busy"), verb="apply", times=2)
    world.cluster.drop(kinds.CONFIG_MAP, NS, "chat-config")
    await world.settle(20)
    assert "apply_status AgentProgram/coding" not in world.writes()
    assert "ConfigMap/chat-config" in world.children()


async def test_one_policy_on_many_stacks_is_not_written_for_each() -> None:
    world = await World.with_objects(policy(), *(stack(f"s{i}", policy="host") for i in range(30)))
    await world.ready()
    await world.settle(120)
    assert world.writes().count("apply_status KVTierPolicy/host") <= 4
    assert world.get(kinds.POLICY, "host")["status"]["attachedStacksTotal"] == 30


async def test_an_event_costs_the_same_whatever_the_number_of_objects() -> None:
    """KServe's handlers list everything. Ours look up by key: no more reads of the store."""

    async def reads(n: int) -> int:
        world = await World.with_objects(*(stack(f"s{i}") for i in range(n)))
        store, count = world.leading.store, 0
        real = store.get

        def counted(*args: object) -> Manifest | None:
            nonlocal count
            count += 1
            return real(*args)  # type: ignore[arg-type]

        store.get = counted  # type: ignore[method-assign]
        world.edit(kinds.STACK, "s0", lambda o: o["spec"]["model"].update(name="other"))
        world.deliver_all()
        return count

    assert await reads(2) == await reads(40)


async def test_an_edit_is_urgent_and_a_new_object_is_not() -> None:
    world = await World.with_objects(stack("old"))
    world.seed(stack("new"))
    world.edit(kinds.STACK, "old", lambda o: o["spec"]["model"].update(name="other"))
    world.deliver_all()
    waiting = {k.name: e.lane for k, e in world.leading.queue._waiting.items()}
    assert waiting == {"new": Lane.BULK, "old": Lane.URGENT}


async def test_our_own_writes_and_idle_chatter_wake_nobody() -> None:
    world = await World.with_objects(stack())
    await world.ready()
    world.edit(kinds.STACK, "chat", lambda o: o["metadata"].update(labels={"team": "x"}))
    world.deliver_all()
    assert world.leading.queue.next_due_s() is None
