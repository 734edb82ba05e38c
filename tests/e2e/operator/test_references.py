"""Stacks, programs and policies refer to each other by name: in any order, missing, late, gone, and overlapping."""

import itertools

import pytest

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import Manifest
from tests.e2e.stacks import aggregated, policy, program
from tests.e2e.world import World, condition, edited, identities, reports, wait_until

_OBJECTS = {
    "stack": (kinds.STACK, aggregated("chat", policy="host")),
    "program": (kinds.PROGRAM, program("coder")),
    "policy": (kinds.POLICY, policy("host")),
}


@pytest.mark.parametrize("order", list(itertools.permutations(_OBJECTS)), ids="-".join)
def test_check_02_any_order_ends_the_same(world: World, order: tuple[str, ...]) -> None:
    """Check 02: each object is seen by the operator before the next one comes."""
    for word in order:
        kind, obj = _OBJECTS[word]
        world.apply(obj)
        world.wait(kind, obj["metadata"]["name"], lambda o: condition(o, "Accepted"))
    for kind, obj in _OBJECTS.values():
        world.ready(obj["metadata"]["name"], kind)
    children = world.wishes("chat")
    assert "InferenceObjective/chat.coder" in children
    assert "coder" in children["ConfigMap/chat-router"]["data"]["routes.yaml"]
    assert "OffloadingConnector" in str(children["Deployment/chat-engine"])
    world.wait(kinds.POLICY, "host", lambda o: o["status"].get("attachedStacks") == ["chat"])
    assert world.get(kinds.STACK, "chat")["status"]["programs"]["attached"] == 1


def test_a_missing_policy_is_awaited_and_its_loss_stops_nothing(world: World) -> None:
    """Missing at first, then there, then deleted, then back: what runs keeps running all the while."""
    world.apply(aggregated("chat", policy="host"))
    message = world.refused("chat", "PolicyNotFound")
    assert "KVTierPolicy host does not exist; create it" in message
    assert world.children("chat") == {}
    world.apply(policy("host"))
    world.ready("chat")
    before = identities(world.children("chat"))
    world.delete(kinds.POLICY, "host")
    world.refused("chat", "PolicyNotFound")
    assert identities(world.children("chat")) == before
    world.apply(policy("host", capacity="20Gi"))
    world.ready("chat")
    after = identities(world.children("chat"))
    assert after["Deployment/chat-engine"][0] == before["Deployment/chat-engine"][0]
    assert after["Deployment/chat-engine"][1] == before["Deployment/chat-engine"][1] + 1


def test_an_edit_of_a_policy_reaches_every_stack_that_refers_to_it(world: World) -> None:
    names = [f"chat-{i}" for i in range(3)]
    world.apply(policy("host"), *(aggregated(name, policy="host") for name in names), aggregated("free"))
    for name in [*names, "free"]:
        world.ready(name)
    before = identities(world.children("free"))
    world.apply(policy("host", capacity="33Gi"))
    expected = str(33 * 2**30)
    for name in names:
        world.wait(kinds.DEPLOYMENT, f"{name}-engine", lambda d: expected in str(d["spec"]["template"]))
    status = world.ready("host", kinds.POLICY)["status"]
    assert (status["attachedStacks"], status["attachedStacksTotal"]) == (names, 3)
    assert identities(world.children("free")) == before
    world.apply(aggregated("chat-1"))
    world.wait(kinds.POLICY, "host", lambda p: p["status"].get("attachedStacksTotal") == 2)


def test_a_program_waits_for_its_stack(world: World) -> None:
    world.apply(program("coder"))
    waiting = world.wait(kinds.PROGRAM, "coder", reports("Ready", "False", "StackNotFound"))
    assert (
        "no AgenticServingStack named chat in this namespace; create it"
        in condition(waiting, "Ready")["message"]
    )
    assert condition(waiting, "Stalled")["status"] == "False"
    world.apply(aggregated("chat"))
    world.ready("coder", kinds.PROGRAM)
    world.delete(kinds.STACK, "chat")
    world.wait(kinds.PROGRAM, "coder", reports("Ready", "False", "StackNotFound"))


def test_a_deleted_program_leaves_the_router(world: World) -> None:
    world.apply(aggregated("chat"))
    world.ready("chat")
    before = world.wishes("chat")
    world.apply(program("coder"))
    world.ready("coder", kinds.PROGRAM)
    assert world.wishes("chat") != before
    world.delete(kinds.PROGRAM, "coder")
    wait_until(lambda: world.wishes("chat") == before, what="the program to be gone from the router")
    world.wait(kinds.STACK, "chat", lambda s: s["status"]["programs"]["attached"] == 0)


def test_a_program_moves_from_one_stack_to_another(world: World) -> None:
    """Both routers hear of it: the one that it left and the one that it joined."""
    world.apply(aggregated("left"), aggregated("right"), program("roamer", "left"))
    world.ready("roamer", kinds.PROGRAM)
    world.ready("right")
    assert "InferenceObjective/left.roamer" in world.children("left")
    world.apply(program("roamer", "right"))
    world.ready("roamer", kinds.PROGRAM)
    wait_until(
        lambda: "InferenceObjective/left.roamer" not in world.children("left"),
        what="the left stack to forget it",
    )
    assert "InferenceObjective/right.roamer" in world.children("right")
    assert "roamer" not in world.wishes("left")["ConfigMap/left-router"]["data"]["routes.yaml"]


def test_a_program_of_several_stacks_is_as_ready_as_the_last_of_them(world: World) -> None:
    world.apply(aggregated("first"), program("pipeline", "first", "second"))
    world.ready("first")
    waiting = world.wait(kinds.PROGRAM, "pipeline", reports("Accepted", "False", "StackNotFound"))
    assert "no AgenticServingStack named second" in condition(waiting, "Accepted")["message"]
    world.apply(edited(aggregated("second"), {"spec.accelerator.preset": "abacus"}))
    waiting = world.wait(kinds.PROGRAM, "pipeline", reports("Ready", "False", "StackNotAccepted"))
    assert "stack second is not accepted: UnknownPreset" in condition(waiting, "Ready")["message"]
    world.apply(aggregated("second"))
    world.ready("pipeline", kinds.PROGRAM)
    for stack in ("first", "second"):
        assert f"InferenceObjective/{stack}.pipeline" in world.children(stack)


def test_a_program_of_another_stack_changes_nothing_here(world: World) -> None:
    world.apply(aggregated("mine"), aggregated("theirs"))
    for name in ("mine", "theirs"):
        world.ready(name)
    before = identities(world.children("mine"))
    world.apply(program("coder", "theirs"))
    world.ready("coder", kinds.PROGRAM)
    assert identities(world.children("mine")) == before


def test_programs_that_compete_for_requests_are_told(world: World) -> None:
    """Equally specific programs overlap; a more specific one simply comes first."""
    red = {"name": "x-team", "value": "red"}
    world.apply(aggregated("chat"), program("app"), program("team", match={"headers": [red]}))
    for name in ("app", "team"):
        told = world.wait(kinds.PROGRAM, name, reports("Overlapping", "True", "MatchOverlap"))
        message = condition(told, "Overlapping")["message"]
        assert f"{world.namespace}/app" in message
        assert f"{world.namespace}/team" in message
        assert "Add a header condition to one of them" in message
        world.ready(name, kinds.PROGRAM)
    world.apply(program("team", match={"headers": [{"name": "x-app", "value": "app"}, red]}))
    for name in ("app", "team"):
        world.wait(kinds.PROGRAM, name, reports("Overlapping", "False", "NoOverlap"))
    world.ready("team", kinds.PROGRAM)
    envoy = world.wishes("chat")["ConfigMap/chat-router"]["data"]["routes.yaml"]
    assert envoy.index("program: team") < envoy.index("program: app")


def test_references_do_not_leave_the_namespace(world: World) -> None:
    """A policy of the same name elsewhere is not the one that is meant."""
    elsewhere: Manifest = policy("host")
    elsewhere["metadata"]["namespace"] = "default"
    world.apply(elsewhere)
    try:
        world.apply(aggregated("chat", policy="host"))
        world.refused("chat", "PolicyNotFound")
    finally:
        world.api.delete(kinds.POLICY, "default", "host")
