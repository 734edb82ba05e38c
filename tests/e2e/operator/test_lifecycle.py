"""A stack's life: creation, deletion at any time, the same name again, scale to zero, restart of the operator."""

import pytest

from agentic_serving import names
from agentic_serving.cluster import kinds
from tests.e2e.apiclient import Manifest
from tests.e2e.stacks import aggregated, disaggregated, program
from tests.e2e.world import CHILD_KINDS, World, condition, edited, identities, reports

#: Never satisfied by a node of the test cluster: pods that wait for good.
_NOWHERE = {"nodeSelector": {"nowhere": "at-all"}}


def assert_gone(world: World, name: str) -> None:
    """Garbage collection has removed every object of the stack."""
    world.api.wait_gone(kinds.STACK, world.namespace, name)
    for kind in CHILD_KINDS:
        for item in world.api.list(kind, world.namespace, selector=f"{names.STACK_LABEL}={name}"):
            world.api.wait_gone(kind, world.namespace, item["metadata"]["name"])


def everything(world: World) -> set[str]:
    """All objects of the kinds that a stack can own, whoever made them."""
    return {
        f"{kind.kind}/{item['metadata']['name']}"
        for kind in CHILD_KINDS
        for item in world.api.list(kind, world.namespace)
    }


def test_check_11_deletion_removes_everything_and_nothing_else(world: World) -> None:
    """Check 11: the neighbour and what users made with labels like ours stay."""
    by_hand = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "by-hand",
            "labels": {names.STACK_LABEL: "doomed", names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE},
        },
    }
    world.apply(aggregated("stays"), by_hand)
    world.ready("stays")
    before = everything(world)
    world.apply(disaggregated("doomed"), program("coder", "doomed", "stays"))
    world.ready("doomed")
    assert everything(world) > before
    world.delete(kinds.PROGRAM, "coder")
    world.delete(kinds.STACK, "doomed")
    world.api.wait_gone(kinds.DEPLOYMENT, world.namespace, "doomed-decode")
    world.settled()
    assert everything(world) == before


def test_check_11_deleted_in_the_middle_of_a_rollout(world: World) -> None:
    """Check 11, mid-rollout: new pods fit nowhere, old ones still run."""
    world.apply(aggregated("chat"))
    world.ready("chat")
    world.apply(edited(aggregated("chat"), {"spec.podTemplate.aggregated": {"spec": _NOWHERE}}))
    world.wait(kinds.DEPLOYMENT, "chat-engine", lambda d: d["status"].get("unavailableReplicas"))
    world.delete(kinds.STACK, "chat")
    assert_gone(world, "chat")
    world.settled()
    assert world.children("chat") == {}


def test_check_04_a_new_stack_of_the_same_name_is_another_one(world: World) -> None:
    """Check 04: it is created while the children of the first are still there, and ends up with its own."""
    world.apply(program(), aggregated("chat"))  # else the stack may be ready before its program came
    first = world.ready("chat")
    old = identities(world.children("chat"))
    world.delete(kinds.STACK, "chat")
    world.api.wait_gone(kinds.STACK, world.namespace, "chat")
    world.apply(aggregated("chat"))
    second = world.ready("chat")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    children = world.children("chat")
    assert children.keys() == old.keys()
    assert not {uid for uid, _ in old.values()} & {uid for uid, _ in identities(children).values()}
    assert {_owner(child) for child in children.values()} == {second["metadata"]["uid"]}


def _owner(child: Manifest) -> str:
    (reference,) = child["metadata"]["ownerReferences"]
    assert reference["controller"]
    assert child["metadata"]["labels"][names.OWNER_UID_LABEL] == reference["uid"]
    return str(reference["uid"])


@pytest.mark.parametrize(
    ("stack", "pools", "replicas"),
    [
        (aggregated("chat", replicas=2), ["aggregated"], "2/2"),
        (disaggregated("chat", decode=2), ["disaggregated.prefill", "disaggregated.decode"], "3/3"),
    ],
    ids=["aggregated", "disaggregated"],
)
def test_check_08_to_zero_and_back(world: World, stack: Manifest, pools: list[str], replicas: str) -> None:
    """Check 08: nothing is left running, it is told as wanted, and the way back ends where it began."""
    zero = {f"spec.topology.{pool}.replicas": 0 for pool in pools}
    world.apply(stack)
    world.ready("chat")
    before = world.wishes("chat")
    world.apply(edited(stack, zero))
    at_zero = world.wait(kinds.STACK, "chat", reports("Ready", "True", "ScaledToZero"))
    assert at_zero["status"]["replicas"] == "0/0"
    assert condition(at_zero, "Reconciling")["status"] == "False"
    assert _engine_pods(world) == []
    assert not [key for key in world.children("chat") if key.startswith("PodDisruptionBudget/")]
    world.apply(stack)
    back = world.wait(kinds.STACK, "chat", reports("Ready", "True", "Ready"))
    assert back["status"]["replicas"] == replicas
    assert world.wishes("chat") == before


def _engine_pods(world: World) -> list[str]:
    pods = world.api.list(kinds.POD, world.namespace, selector=f"{names.COMPONENT_LABEL}=engine")
    return [p["metadata"]["name"] for p in pods if "deletionTimestamp" not in p["metadata"]]


def test_check_08_a_router_of_zero_is_told(world: World) -> None:
    """Check 08 for the way in: nobody is reachable, so the stack is not Ready, and says why."""
    world.apply(aggregated("chat"))
    world.ready("chat")
    world.apply(edited(aggregated("chat"), {"spec.router.replicas": 0}))
    shut = world.wait(kinds.STACK, "chat", reports("RouterReady", "False"))
    assert condition(shut, "Ready")["status"] == "False"
    world.apply(aggregated("chat"))
    world.ready("chat")
