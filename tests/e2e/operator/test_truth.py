"""The status says what is the case: never ahead of the pods, about a generation that it names, in words of who knows."""

from collections.abc import Iterator

import pytest

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import ApiClient, Manifest
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.operator_process import OperatorProcess
from tests.e2e.stacks import aggregated
from tests.e2e.world import World, condition, edited, fresh_world, reports

_LATE = {"spec": {"nodeSelector": {"arrives": "late"}}}


def test_check_13_not_ready_before_the_pods_are(world: World) -> None:
    """Check 13: pods fit on no node; the scheduler's words are in the condition; a node comes, and it is Ready."""
    stack = edited(aggregated("chat"), {"spec.podTemplate.aggregated": _LATE})
    world.apply(stack)
    stuck = world.wait(kinds.STACK, "chat", reports("Ready", "False", "Unschedulable"))
    message = condition(stuck, "Ready")["message"]
    assert "fits on no node: 0/" in message
    assert "nodes are available" in message
    assert condition(stuck, "Available")["status"] == "False"
    assert condition(stuck, "Applied")["status"] == "True"
    assert condition(stuck, "Reconciling")["status"] == "True"
    assert stuck["status"]["replicas"] == "0/1"
    labels = {"arrives": "late", "nvidia.com/gpu.product": "NVIDIA-H200"}
    world.cluster.add_nodes([{"name": "late", "labels": labels, "capacity": {"nvidia.com/gpu": "8"}}])
    try:
        world.ready("chat")
    finally:
        world.api.call("DELETE", "/api/v1/nodes/late")


def test_check_13_every_status_on_the_way_is_true(world: World) -> None:
    """Check 13 over a history: each version of the status is held against the Deployments at that moment."""
    seen: list[Manifest] = []

    def looked_at(obj: Manifest) -> bool:
        seen.append(obj)
        if condition(obj, "Ready").get("status") == "True":
            _assert_pods_are_there(world, obj)
        return reports("Ready", "True")(obj)

    for replicas, extra in ((1, "a"), (3, "a"), (3, "b"), (0, "b"), (2, "c")):
        env = [{"name": "EXTRA", "value": extra}]
        world.apply(aggregated("chat", replicas=replicas, engine={"env": env}))
        world.wait(kinds.STACK, "chat", looked_at)
    generations = [obj["status"]["observedGeneration"] for obj in seen if "status" in obj]
    assert generations == sorted(generations)
    assert generations[-1] == 5
    for obj in seen:
        for found in (obj.get("status") or {}).get("conditions", ()):
            assert found["observedGeneration"] <= obj["metadata"]["generation"]


def _assert_pods_are_there(world: World, obj: Manifest) -> None:
    """Ready about this very generation means: the Deployment it asks for is complete."""
    asked = obj["spec"]["topology"]["aggregated"]["replicas"]
    if condition(obj, "Ready")["observedGeneration"] != obj["metadata"]["generation"]:
        return  # it is about an older spec, and says so
    engine = world.get(kinds.DEPLOYMENT, "chat-engine")
    newest = world.get(kinds.STACK, "chat")["metadata"]["generation"] == obj["metadata"]["generation"]
    assert not newest or engine["status"].get("readyReplicas", 0) == asked
    assert obj["status"]["replicas"] == f"{asked}/{asked}"


def test_check_13_a_rollout_that_gets_stuck_still_serves(world: World) -> None:
    """The new pod fits nowhere and the old one serves: not as asked, and available."""
    world.apply(aggregated("chat"))
    world.ready("chat")
    world.apply(aggregated("chat", podTemplate={"aggregated": _LATE}))
    rolling = world.wait(kinds.STACK, "chat", reports("Ready", "False", "Unschedulable"))
    assert condition(rolling, "Available")["status"] == "True"
    world.apply(aggregated("chat"))
    world.ready("chat")


def test_check_13_a_lost_pod_is_told(world: World) -> None:
    """The only engine pod goes and cannot come back: Ready goes with it, and returns with the next."""
    world.apply(aggregated("chat"))
    world.ready("chat")
    world.cluster.kubectl("cordon", "nvidia-h200")
    try:
        world.kubectl("delete", "pod", "-l", "app.kubernetes.io/component=engine", "--wait=false")
        lost = world.wait(kinds.STACK, "chat", reports("Available", "False", "Unschedulable"))
        assert condition(lost, "Ready")["status"] == "False"
        assert lost["status"]["replicas"] == "0/1"
    finally:
        world.cluster.kubectl("uncordon", "nvidia-h200")
    world.ready("chat")


def test_check_13_pods_that_may_not_be_created_are_told(world: World) -> None:
    """A quota: the Deployment's own words, and recovery when it is lifted."""
    quotas = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    world.api.call("POST", quotas, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    world.apply(aggregated("chat"))
    stuck = world.wait(kinds.STACK, "chat", reports("Ready", "False", "PodsFailing"))
    assert "pods cannot be created" in condition(stuck, "Ready")["message"]
    assert "exceeded quota: none" in condition(stuck, "Ready")["message"]
    world.api.call("DELETE", f"{quotas}/none")
    world.ready("chat")


@pytest.fixture(scope="module")
def told(plane: ControlPlane, api: ApiClient, operator: OperatorProcess) -> Iterator[World]:
    with fresh_world(plane, api, operator) as world:
        yield world


def test_check_21_events_tell_transitions_once(told: World) -> None:
    """Check 21: Ready once, the fault once however long it lasts, the repair once; none while nothing changes."""
    # Pods that kwok calls Running have no scheduler, which would be told too.
    told.apply(edited(aggregated("chat"), {"spec.programScheduling": {"mode": "Off"}}))
    told.ready("chat")
    told.settled()
    assert [(e["type"], e["reason"]) for e in told.events("chat")] == [("Normal", "Ready")]
    told.merge(kinds.STACK, "chat", {"spec": {"accelerator": {"preset": "abacus"}}})
    told.refused("chat", "UnknownPreset")
    # Another look at the same fault, in a new generation.
    told.merge(kinds.STACK, "chat", {"spec": {"disruption": {"drainTimeout": "4m"}}})
    told.refused("chat", "UnknownPreset")
    told.merge(kinds.STACK, "chat", {"spec": {"accelerator": {"preset": "nvidia-h200"}}})
    told.ready("chat")
    told.settled()
    events = told.events("chat")
    warnings = [e for e in events if e["type"] == "Warning"]
    assert [e["reason"] for e in warnings] == ["UnknownPreset"]
    assert "spec.accelerator.preset" in warnings[0]["note"]
    assert events[-1]["type"] == "Normal"
    assert len(events) <= 5


def test_check_21_events_are_bounded_and_rest_is_silent(told: World) -> None:
    """Check 21: an object that flaps without end has 25 Events, as client-go allows; at rest nothing is logged."""
    told.apply(aggregated("flapper"))
    told.ready("flapper")
    for _ in range(16):
        told.merge(kinds.STACK, "flapper", {"spec": {"accelerator": {"preset": "abacus"}}})
        told.refused("flapper", "UnknownPreset")
        told.merge(kinds.STACK, "flapper", {"spec": {"accelerator": {"preset": "nvidia-h200"}}})
        told.ready("flapper")
    assert 2 < len(told.events("flapper")) <= 26  # 25 at once, and one more each five minutes
    told.settled()
    lines = told.operator.log.read_text().count("\n")
    told.settled()
    assert told.operator.log.read_text().count("\n") == lines
