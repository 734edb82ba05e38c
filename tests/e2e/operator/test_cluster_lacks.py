"""Clusters that lack something: rights taken away while the operator runs, and kinds that are not installed yet."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import ApiClient
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.operator_process import OperatorProcess, install
from tests.e2e.stacks import aggregated, program
from tests.e2e.world import FAST, World, condition, edited, fresh_world, identities, reports, wait_until

_ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/agentic-serving-operator"
Rules = list[dict[str, Any]]


@pytest.fixture
def rights(api: ApiClient) -> Iterator[Callable[[str, str], None]]:
    """Takes a verb on a resource away from the operator; all is given back at the end."""
    rules: Rules = api.call("GET", _ROLE)["rules"]

    def take(resource: str, verb: str) -> None:
        api.call(
            "PATCH", _ROLE, {"rules": _without(rules, resource, verb)}, content="application/merge-patch+json"
        )

    yield take
    api.call("PATCH", _ROLE, {"rules": rules}, content="application/merge-patch+json")


def _without(rules: Rules, resource: str, verb: str) -> Rules:
    left: Rules = []
    for rule in rules:
        if resource not in rule["resources"]:
            left.append(rule)
            continue
        others = [r for r in rule["resources"] if r != resource]
        left += [{**rule, "resources": others}] if others else []
        left.append({**rule, "resources": [resource], "verbs": [v for v in rule["verbs"] if v != verb]})
    return left


def test_check_15_a_missing_right_degrades_one_part(
    world: World, rights: Callable[[str, str], None], api: ApiClient
) -> None:
    """Check 15: what may still be written is written; verb and kind are named; granted again, it recovers."""
    rules: Rules = api.call("GET", _ROLE)["rules"]
    rights("poddisruptionbudgets", "patch")
    world.apply(aggregated("two", replicas=2), aggregated("one"))
    world.ready("one")  # it needs no budget, so it does not notice
    stack = world.wait(kinds.STACK, "two", reports("Applied", "False", "Forbidden"))
    message = condition(stack, "Applied")["message"]
    assert "PodDisruptionBudget two-engine" in message
    assert "patch" in message
    assert "poddisruptionbudgets" in message
    others = set(world.children("two"))
    assert {"Deployment/two-engine", "Deployment/two-router", "Service/two"} <= others
    world.wait(kinds.STACK, "two", lambda s: condition(s, "Available").get("status") == "True")
    assert "PodDisruptionBudget" in world.kubectl("describe", "astack", "two")
    api.call("PATCH", _ROLE, {"rules": rules}, content="application/merge-patch+json")
    world.ready("two")  # by itself: the retry finds the right there
    assert "PodDisruptionBudget/two-engine" in world.children("two")


def test_check_15_without_the_right_to_delete_nothing_else_stops(
    world: World, rights: Callable[[str, str], None]
) -> None:
    """Check 15 for pruning: what is no longer wanted stays and is named; the rest is as asked."""
    world.apply(aggregated("chat", replicas=2))
    world.ready("chat")
    rights("poddisruptionbudgets", "delete")
    world.apply(aggregated("chat", replicas=1))
    stack = world.wait(kinds.STACK, "chat", reports("Applied", "False", "Forbidden"))
    assert "PodDisruptionBudget chat-engine" in condition(stack, "Applied")["message"]
    assert "delete" in condition(stack, "Applied")["message"]
    assert world.get(kinds.DEPLOYMENT, "chat-engine")["spec"]["replicas"] == 1


def test_check_15_without_the_right_to_read_pods_the_counts_are_told(
    world: World, rights: Callable[[str, str], None]
) -> None:
    """Check 15: reading pods is a help, not a need."""
    rights("pods", "list")
    world.apply(
        edited(aggregated("chat"), {"spec.podTemplate.aggregated.spec.nodeSelector": {"nowhere": "x"}})
    )
    stack = world.wait(kinds.STACK, "chat", reports("Available", "False", "ReplicasUnavailable"))
    assert "chat-engine: 0 of 1 ready" in condition(stack, "Available")["message"]


@pytest.fixture(scope="module")
def bare() -> Iterator[World]:
    """A cluster without any third-party CRD, and an operator there."""
    with ControlPlane() as plane:
        install(plane)
        client = ApiClient(plane, plane.admin_token)
        with (
            OperatorProcess(plane, settings=FAST, name="bare") as operator,
            fresh_world(plane, client, operator) as made,
        ):
            yield made
        client.close()


def test_kinds_that_are_installed_later_are_picked_up(bare: World) -> None:
    """One cluster that grows: each missing kind is a finding or a capability, never a failure, and heals by itself."""
    gateway = edited(
        aggregated("edge"),
        {"spec.router.mode": "Gateway", "spec.router.gateway.parentRefs": [{"name": "gw"}]},
    )
    bare.apply(aggregated("chat"), gateway, program("coder"))
    message = bare.refused("chat", "MissingAPI")
    assert "inference.networking.k8s.io/v1" in message
    assert "install the CRDs of gateway-api-inference-extension" in message
    assert bare.children("chat") == {}

    bare.cluster.install_third_party("inference-pool")
    bare.ready("chat")
    bare.ready("coder", kinds.PROGRAM)
    kinds_made = {key.split("/")[0] for key in bare.children("chat")}
    assert not kinds_made & {"PodMonitor", "InferenceObjective", "HTTPRoute"}
    assert "mode Gateway needs HTTPRoute" in bare.refused("edge", "GatewayAPINotInstalled")

    before = identities(bare.children("chat"))
    bare.cluster.install_third_party("pod-monitor", "llmd-objective", "gateway-api")
    bare.ready("edge")
    assert "HTTPRoute/edge" in bare.children("edge")
    wanted = {"PodMonitor/chat-engine", "InferenceObjective/chat.coder"}
    wait_until(lambda: bare.children("chat").keys() >= wanted, what="what the new kinds make possible")
    after = identities(bare.children("chat"))
    engine = "Deployment/chat-engine"
    assert after[engine] == before[engine], "new kinds rolled the engines"
    bare.ready("chat")
