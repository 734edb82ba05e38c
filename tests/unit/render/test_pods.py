"""Pods: what keeps them safe, drained and in agreement with the router, for every example."""

from collections.abc import Iterator
from typing import Any

import pytest

from agentic_serving.api.quantities import parse_bytes
from agentic_serving.render.plan import Plan, render
from tests.unit.render.builders import (
    DISAGGREGATED,
    EXAMPLE_NAMES,
    container,
    example_inputs,
    found,
    of_kind,
    plan_of,
    pod,
)

ALL = pytest.mark.parametrize("example", EXAMPLE_NAMES)
NATIVE = {"hostMemory": {"backend": "Native", "capacityPerReplica": "100Gi"}}


def deployments(example: str) -> list[dict[str, Any]]:
    return [dict(m.body) for m in of_kind(render(example_inputs(example)), "Deployment")]


def containers(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from template["spec"].get("initContainers", [])
    yield from template["spec"]["containers"]


@ALL
def test_nothing_runs_as_root_or_may_become_it(example: str) -> None:
    """The restricted pod security standard, but for the volume types of weights from an image."""
    for body in deployments(example):
        spec = body["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["enableServiceLinks"] is False
        for one in containers(body["spec"]["template"]):
            assert one["securityContext"]["allowPrivilegeEscalation"] is False, one["name"]
            assert one["securityContext"]["capabilities"]["drop"] == ["ALL"], one["name"]


@ALL
def test_only_the_router_has_a_service_account_token(example: str) -> None:
    tokens = {
        body["metadata"]["labels"]["app.kubernetes.io/component"]: body["spec"]["template"]["spec"][
            "automountServiceAccountToken"
        ]
        for body in deployments(example)
    }
    assert [component for component, mounted in tokens.items() if mounted] == ["router"]


@ALL
def test_selectors_find_their_own_pods_and_no_others(example: str) -> None:
    bodies = deployments(example)
    for body in bodies:
        selector = body["spec"]["selector"]["matchLabels"]
        hits = [b for b in bodies if selector.items() <= b["spec"]["template"]["metadata"]["labels"].items()]
        assert hits == [body]


@ALL
def test_services_and_the_pool_point_at_ports_that_pods_have(example: str) -> None:
    plan = render(example_inputs(example))
    services = [m.body for m in of_kind(plan, "Service")]
    wanted = [(s["spec"]["selector"], s["spec"]["ports"][0]["targetPort"]) for s in services]
    (pool,) = [m.body["spec"] for m in of_kind(plan, "InferencePool")]
    wanted.append((pool["selector"]["matchLabels"], pool["targetPorts"][0]["number"]))
    for selector, port in wanted:
        templates = [d["spec"]["template"] for d in deployments(example)]
        chosen = [t for t in templates if selector.items() <= t["metadata"]["labels"].items()]
        assert chosen
        for template in chosen:
            open_ports = {p["containerPort"] for c in containers(template) for p in c.get("ports", [])}
            assert port in open_ports


@ALL
def test_a_pod_is_given_time_to_drain(example: str) -> None:
    for body in deployments(example):
        spec = body["spec"]["template"]["spec"]
        sleeps = [
            c["lifecycle"]["preStop"]["sleep"]["seconds"] for c in spec["containers"] if "lifecycle" in c
        ]
        assert all(0 < seconds < spec["terminationGracePeriodSeconds"] for seconds in sleeps)


@pytest.mark.parametrize(("drain", "seconds"), [("5m", 300), ("1ms", 1), ("1h30m", 5400)])
def test_grace_exceeds_the_drain_that_exceeds_nothing_else(drain: str, seconds: int) -> None:
    plan = plan_of({"disruption": {"drainTimeout": drain}})
    engine = container(plan, "chat-engine", "engine")
    assert f"--shutdown-timeout={seconds}" in engine["args"]
    sleep = engine["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(plan, "chat-engine")["spec"]["terminationGracePeriodSeconds"] > sleep + seconds
    router = pod(plan, "chat-router")["spec"]
    assert (
        router["terminationGracePeriodSeconds"]
        > router["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    )


@ALL
def test_a_rollout_fails_only_after_a_pod_had_time_to_start(example: str) -> None:
    for body in deployments(example):
        for one in body["spec"]["template"]["spec"]["containers"]:
            probe = one.get("startupProbe", {"periodSeconds": 0, "failureThreshold": 0})
            patience = probe["periodSeconds"] * probe["failureThreshold"]
            assert body["spec"]["progressDeadlineSeconds"] > patience, one["name"]


def test_shared_memory_holds_the_tier_and_counts_in_the_memory_limit() -> None:
    before = plan_of({"accelerator": {"overrides": {"hostMemory": "64Gi"}}})
    after = plan_of({"accelerator": {"overrides": {"hostMemory": "64Gi"}}}, tiers=NATIVE)
    tier = parse_bytes("100Gi")
    assert shm_bytes(after) >= shm_bytes(before) + tier
    assert memory_bytes(after) >= memory_bytes(before) + tier


def shm_bytes(plan: Plan) -> int:
    (volume,) = [v for v in pod(plan, "chat-engine")["spec"]["volumes"] if v["name"] == "dshm"]
    assert volume["emptyDir"]["medium"] == "Memory"
    return parse_bytes(volume["emptyDir"]["sizeLimit"])


def memory_bytes(plan: Plan) -> int:
    return parse_bytes(container(plan, "chat-engine", "engine")["resources"]["limits"]["memory"])


@pytest.mark.parametrize(
    ("parallelism", "devices"),
    [({}, "1"), ({"tensor": 4}, "4"), ({"tensor": 2, "pipeline": 2, "data": 2}, "8")],
)
def test_devices_are_the_product_of_the_split(parallelism: dict[str, int], devices: str) -> None:
    plan = plan_of({"topology": {"aggregated": {"parallelism": parallelism}}})
    resources = container(plan, "chat-engine", "engine")["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == devices


def test_a_decode_pod_answers_through_the_sidecar() -> None:
    plan = plan_of(base=DISAGGREGATED)
    sidecar, engine = (
        container(plan, "chat-decode", "routing-proxy"),
        container(plan, "chat-decode", "engine"),
    )
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["ports"][0]["containerPort"] == 8000
    assert "--port=8200" in engine["args"]
    assert engine["readinessProbe"]["httpGet"]["port"] == 8200
    assert {"--port=8000", "--model-server-port=8200", "--kv-connector=nixlv2"} <= set(sidecar["args"])
    assert "initContainers" not in pod(plan, "chat-prefill")["spec"]
    assert "--port=8000" in container(plan, "chat-prefill", "engine")["args"]


def test_pools_of_scarce_devices_are_replaced_in_place_and_single_pods_by_their_successor() -> None:
    def strategy(replicas: int, name: str = "chat-engine", **patch: Any) -> tuple[int, int]:
        plan = plan_of({"topology": {"aggregated": {"replicas": replicas}}, **patch})
        update = found(plan, "Deployment", name)["spec"]["strategy"]["rollingUpdate"]
        return update["maxSurge"], update["maxUnavailable"]

    assert strategy(1) == (1, 0)
    assert strategy(2) == (0, 1)
    assert strategy(12) == (0, 3)
    assert strategy(4, name="chat-router") == (1, 0)


def test_every_file_that_the_router_reads_counts_in_its_hash() -> None:
    key = "agentic-serving.dev/config-hash"
    plans = [
        plan_of(),
        plan_of({"router": {"requestTimeout": "1h"}}),
        plan_of({"model": {"contextLength": 4096}}),
    ]
    hashes = {pod(plan, "chat-router")["metadata"]["annotations"][key] for plan in plans}
    assert len(hashes) == 3


@ALL
def test_budgets_guard_pools_of_several_pods_only(example: str) -> None:
    plan = render(example_inputs(example))
    guarded = {m.key[2] for m in of_kind(plan, "PodDisruptionBudget")}
    assert guarded == {d["metadata"]["name"] for d in deployments(example) if d["spec"]["replicas"] > 1}
