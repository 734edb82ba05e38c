"""Somebody changes, removes or stands in the way of what the operator made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from agentic_serving import names
from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind
from tests.e2e.apiclient import ApiClient, Manifest
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.operator_process import OperatorProcess
from tests.e2e.stacks import aggregated, program
from tests.e2e.world import (
    CHILD_KINDS,
    World,
    condition,
    edited,
    fresh_world,
    identities,
    reports,
    wait_until,
)

#: One stack that has a child of every kind, two replicas for the disruption budget.
STACK = edited(
    aggregated("chat", replicas=2),
    {"spec.router.mode": "Gateway", "spec.router.gateway.parentRefs": [{"name": "edge"}]},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child of STACK, a damage done to it by hand, and the smallest foreign object of its kind."""

    kind: Kind
    name: str
    damage: Mapping[str, Any]
    foreign: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.kind.kind}-{self.name}"

    @property
    def key(self) -> str:
        return f"{self.kind.kind}/{self.name}"


_POD = {"containers": [{"name": "c", "image": "example.com/other"}]}
_LABELS = {"app": "other"}
_RULE = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
CHILDREN = [
    Child(
        kind=kinds.DEPLOYMENT,
        name="chat-engine",
        damage={"spec": {"replicas": 7}},
        foreign={
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": _LABELS},
                "template": {"metadata": {"labels": _LABELS}, "spec": _POD},
            }
        },
    ),
    Child(
        kind=kinds.SERVICE,
        name="chat",
        damage={"spec": {"selector": {names.STACK_LABEL: "another"}}},
        foreign={"spec": {"selector": _LABELS, "ports": [{"port": 80}]}},
    ),
    Child(
        kind=kinds.CONFIG_MAP,
        name="chat-router",
        damage={"data": {"envoy.yaml": "admin: {}"}},
        foreign={"data": {"other": "theirs"}},
    ),
    Child(
        kind=kinds.SERVICE_ACCOUNT,
        name="chat-router",
        damage={"automountServiceAccountToken": True},
        foreign={},
    ),
    Child(
        kind=kinds.ROLE,
        name="chat-router",
        damage={"rules": [_RULE]},
        # A right that the operator holds: to a Role with others it could not bind, the API server would refuse it.
        foreign={"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    ),
    Child(
        kind=kinds.ROLE_BINDING,
        name="chat-router",
        damage={"subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]},
        foreign={
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "other"},
            "subjects": [],
        },
    ),
    Child(
        kind=kinds.POD_DISRUPTION_BUDGET,
        name="chat-engine",
        damage={"spec": {"selector": {"matchLabels": {"app": "nothing"}}}},
        foreign={"spec": {"maxUnavailable": 1, "selector": {"matchLabels": _LABELS}}},
    ),
    Child(
        kind=kinds.NETWORK_POLICY,
        name="chat-engine",
        damage={"spec": {"ingress": [{}]}},
        foreign={"spec": {"podSelector": {"matchLabels": _LABELS}}},
    ),
    Child(
        kind=kinds.INFERENCE_POOL,
        name="chat",
        damage={"spec": {"targetPorts": [{"number": 9}]}},
        foreign={
            "spec": {
                "selector": {"matchLabels": _LABELS},
                "targetPorts": [{"number": 1}],
                "endpointPickerRef": {"name": "other", "port": {"number": 1}},
            }
        },
    ),
    Child(
        kind=kinds.LLMD_INFERENCE_OBJECTIVE,
        name="chat.coder",
        damage={"spec": {"priority": 99}},
        foreign={"spec": {"priority": 1, "poolRef": {"name": "other"}}},
    ),
    Child(
        kind=kinds.HTTP_ROUTE,
        name="chat",
        damage={"spec": {"parentRefs": [{"name": "elsewhere"}]}},
        foreign={"spec": {"parentRefs": [{"name": "other"}]}},
    ),
    Child(
        kind=kinds.POD_MONITOR,
        name="chat-engine",
        damage={"spec": {"selector": {"matchLabels": {"app": "nothing"}}}},
        foreign={"spec": {"selector": {"matchLabels": _LABELS}, "podMetricsEndpoints": []}},
    ),
]
each_child = pytest.mark.parametrize("child", CHILDREN, ids=str)


def test_there_is_a_case_for_every_kind_of_child() -> None:
    # The two InferenceObjectives differ in their group only: which one is written depends on the picker's release.
    assert {child.kind for child in CHILDREN} == set(CHILD_KINDS) - {kinds.GIE_INFERENCE_OBJECTIVE}


@pytest.fixture(scope="module")
def steady(
    plane: ControlPlane, api: ApiClient, operator: OperatorProcess
) -> Iterator[tuple[World, dict[str, Manifest]]]:
    """A stack at rest that tests damage and find repaired, and what its children wish."""
    with fresh_world(plane, api, operator) as world:
        world.apply(STACK, program("coder"))
        world.ready("chat")
        world.ready("coder", kinds.PROGRAM)
        world.settled()
        yield world, world.wishes("chat")


@each_child
def test_check_09_an_edit_by_hand_is_undone(steady: tuple[World, dict[str, Manifest]], child: Child) -> None:
    """Check 09, one kind at a time: the repair does not ride on another's event, and is one write."""
    world, wanted = steady
    before = identities(world.children("chat"))
    mark = world.cluster.mark()
    world.merge(child.kind, child.name, child.damage)
    wait_until(lambda: world.wishes("chat") == wanted, what="the edit to be undone")
    after = identities(world.children("chat"))
    assert all(before[key][0] == after[key][0] for key in before), "a child was made anew"
    written = [w for w in world.writes(mark) if "agenticservingstacks/status" not in w]
    assert len(written) == 1, written
    assert f"patch {child.kind.plural} {world.namespace}/{child.name}" in written[0]


@each_child
def test_check_09_a_deleted_child_comes_back(steady: tuple[World, dict[str, Manifest]], child: Child) -> None:
    """Check 09: one create, and nothing else is touched."""
    world, wanted = steady
    before = identities(world.children("chat"))
    mark = world.cluster.mark()
    world.delete(child.kind, child.name)
    wait_until(lambda: world.wishes("chat") == wanted, what="the child to be back")
    after = identities(world.children("chat"))
    assert [key for key in before if before[key][0] != after[key][0]] == [child.key]
    written = [w for w in world.writes(mark) if "/status" not in w]
    assert len(written) == 1, written


def test_check_09_a_foreign_field_is_left_alone(world: World) -> None:
    """What others add and the operator has no opinion on is theirs: no fight, no loop."""
    world.apply(aggregated("chat"))
    world.ready("chat")
    theirs = {"metadata": {"annotations": {"backup.example.com/plan": "weekly"}, "labels": {"team": "red"}}}
    for kind, name in (
        (kinds.DEPLOYMENT, "chat-engine"),
        (kinds.SERVICE, "chat"),
        (kinds.CONFIG_MAP, "chat-router"),
    ):
        world.merge(kind, name, theirs)
    world.merge(kinds.DEPLOYMENT, "chat-engine", {"spec": {"minReadySeconds": 3}})
    world.ready("chat")
    world.settled()
    mark = world.cluster.mark()
    world.apply(edited(aggregated("chat"), {"metadata.annotations": {"note": "wake up"}}))
    world.settled()
    assert world.writes(mark) == []
    engine = world.get(kinds.DEPLOYMENT, "chat-engine")
    assert engine["spec"]["minReadySeconds"] == 3
    assert engine["metadata"]["labels"]["team"] == "red"
    assert engine["metadata"]["annotations"]["backup.example.com/plan"] == "weekly"


def test_check_09_a_lost_owner_reference_or_label_comes_back(world: World) -> None:
    """Without them, garbage collection or the operator would lose sight of the child."""
    world.apply(aggregated("chat"))
    world.ready("chat")
    wanted = world.wishes("chat")
    world.merge(kinds.SERVICE, "chat", {"metadata": {"ownerReferences": None}})
    world.merge(kinds.CONFIG_MAP, "chat-router", {"metadata": {"labels": {names.MANAGED_BY_LABEL: None}}})
    wait_until(lambda: world.wishes("chat") == wanted, what="reference and label to be back")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """What came of a stack one of whose names was taken."""

    told: Manifest  # the stack, as it said so
    created: Manifest  # the foreign object, at first and while the stack said so
    during: Manifest
    others: set[str]  # the stack's children meanwhile
    at_last: set[str]  # its children after the foreign object was deleted


def stack_of(child: Child) -> str:
    return f"no-{child.kind.plural}"


def renamed(child: Child) -> str:
    """The child's name where the stack is not `chat`."""
    return child.name.replace("chat", stack_of(child), 1)


@pytest.fixture(scope="module")
def conflicts(plane: ControlPlane, api: ApiClient, operator: OperatorProcess) -> dict[str, Conflict]:
    """A stack for each kind of child, and a foreign object of the name that this child needs; by stack.

    All together: a conflict is looked at again after a back-off, which twelve tests in a row would wait for.
    """
    with fresh_world(plane, api, operator) as world:
        created = {stack_of(child): _create_foreign(world, child) for child in CHILDREN}
        world.apply(*(edited(STACK, {"metadata.name": name}) for name in created), program("coder", *created))
        is_told = reports("Ready", "False", "NameConflict")
        told = api.wait_all(kinds.STACK, world.namespace, list(created), is_told)
        world.wait(kinds.PROGRAM, "coder", lambda p: condition(p, "Accepted"))
        during = {stack_of(c): world.get(c.kind, renamed(c)) for c in CHILDREN}
        wait_until(
            lambda: all(_complete(world, c) for c in CHILDREN), what="what nobody stands in the way of"
        )
        others = {name: set(world.children(name)) for name in created}
        for child in CHILDREN:
            world.delete(child.kind, renamed(child))
        api.wait_all(kinds.STACK, world.namespace, list(created), reports("Ready", "True"))
        return {
            name: Conflict(
                told=told[name],
                created=created[name],
                during=during[name],
                others=others[name],
                at_last=set(world.children(name)),
            )
            for name in created
        }


def _complete(world: World, child: Child) -> bool:
    """Whether every child but the one whose name is taken is there."""
    others = {f"{c.kind.kind}/{c.name.replace('chat', stack_of(child), 1)}" for c in CHILDREN if c != child}
    return world.children(stack_of(child)).keys() >= others


@each_child
def test_check_10_a_foreign_object_of_the_same_name_is_not_touched(
    conflicts: dict[str, Conflict], child: Child
) -> None:
    """Check 10: neither adopted nor overwritten; told by name; once it is gone, the stack recovers."""
    seen, name = conflicts[stack_of(child)], renamed(child)
    message = condition(seen.told, "Applied")["message"]
    assert f"{child.kind.kind} {name}" in message
    assert f"kubectl delete {child.kind} {name} -n {seen.told['metadata']['namespace']}" in message
    assert seen.during["metadata"]["uid"] == seen.created["metadata"]["uid"]
    assert seen.during["metadata"].get("labels") == seen.created["metadata"].get("labels")
    assert "ownerReferences" not in seen.during["metadata"]
    managers = {entry["manager"] for entry in seen.during["metadata"].get("managedFields", [])}
    assert names.FIELD_MANAGER not in managers
    assert f"{child.kind.kind}/{name}" not in seen.others
    assert f"{child.kind.kind}/{name}" in seen.at_last


def _create_foreign(world: World, child: Child) -> Manifest:
    body = {
        "apiVersion": child.kind.api_version,
        "kind": child.kind.kind,
        "metadata": {"name": renamed(child), "namespace": world.namespace},
        **child.foreign,
    }
    return world.api.create(body)


def test_check_10_a_label_like_ours_makes_no_object_ours(world: World) -> None:
    """Check 10: somebody copies our labels; without our owner reference it is neither pruned nor adopted."""
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "chat",
            "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE, names.STACK_LABEL: "chat"},
        },
        "spec": {"selector": _LABELS, "ports": [{"port": 80}]},
    }
    (theirs,) = world.apply(body)
    world.apply(aggregated("chat"))
    world.wait(kinds.STACK, "chat", reports("Ready", "False", "NameConflict"))
    assert world.get(kinds.SERVICE, "chat")["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert world.get(kinds.SERVICE, "chat")["spec"]["selector"] == _LABELS


def test_check_10_a_child_of_another_owner_is_not_taken(world: World) -> None:
    """Check 10: an object that another controller owns is named with that owner."""
    (owner,) = world.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}, "data": {"a": "b"}}
    )
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chat", "ownerReferences": [reference]},
        "spec": {"selector": _LABELS, "ports": [{"port": 80}]},
    }
    world.apply(body)
    world.apply(aggregated("chat"))
    stack = world.wait(kinds.STACK, "chat", reports("Ready", "False", "NameConflict"))
    assert "is controlled by ConfigMap owner" in condition(stack, "Ready")["message"]
