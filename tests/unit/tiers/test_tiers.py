"""tiers: what a policy becomes on each backend, accelerator and role, or why nothing does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentic_serving.api.policy import KVTierPolicySpec
from agentic_serving.capacity.accelerator import find_accelerator
from agentic_serving.capacity.profile import Attention, ModelProfile
from agentic_serving.capacity.sizing import Parallelism
from agentic_serving.engines import vllm
from agentic_serving.engines.base import EngineInputs
from agentic_serving.engines.connectors import connector_problems
from agentic_serving.engines.tables import load_vllm
from agentic_serving.errors import Bug
from agentic_serving.tiers.base import Role, TierInputs, TierPlan
from agentic_serving.tiers.plan import plan_tiers

GIB = 2**30
LMCACHE_OPTIONS = json.loads((Path(__file__).parent / "lmcache-0.5.6-options.json").read_text())
# 64 layers x 2 x 8 heads x 128 x 2 bytes = 256 KiB per token.
MODEL = ModelProfile(name="m", attention="GQA", kv_bytes_per_token=262_144, n_kv_heads=8)

NATIVE = {"hostMemory": {"backend": "Native", "capacityPerReplica": "100Gi"}}
LMCACHE = {"hostMemory": {"backend": "LMCache", "capacityPerReplica": "100Gi"}}
SHARED = LMCACHE | {"shared": {"backend": "LMCache", "persistentVolumeClaim": {"claimName": "kv"}}}


def inputs(policy: dict[str, Any] | None, preset: str = "nvidia-h200", **changes: Any) -> TierInputs:
    base = TierInputs(
        policy=KVTierPolicySpec.model_validate(policy) if policy else None,
        accelerator=find_accelerator(preset),
        role="Aggregated",
        version="0.33.0",
        block_tokens=64,
        engine_image="docker.io/vllm/vllm-openai:v0.33.0",
        engine_packages=vllm.packages(find_accelerator(preset), "0.33.0", custom_image=False),
        profile=MODEL,
        coordinator_host="chat-lmcache.team.svc",
    )
    return replace(base, **changes)


def states(plan: TierPlan) -> dict[str, str]:
    return {c.intent: c.state for c in plan.capabilities}


def test_without_a_policy_there_is_nothing() -> None:
    assert plan_tiers(inputs(None)) == TierPlan()


@pytest.mark.parametrize("preset", ["nvidia-h100", "nvidia-h200", "nvidia-b200", "amd-mi300x"])
@pytest.mark.parametrize("role", ["Aggregated", "Prefill", "Decode"])
def test_native_offload_lies_in_shared_memory(preset: str, role: Role) -> None:
    plan = plan_tiers(inputs(NATIVE, preset, role=role))
    assert plan.connector is not None
    assert plan.connector["kv_connector"] == "OffloadingConnector"
    assert plan.connector["kv_connector_extra_config"] == {"cpu_bytes_to_use": 100 * GIB}
    assert (plan.shm_bytes, plan.engine_memory_bytes, plan.memory_bytes) == (100 * GIB,) * 3
    assert (plan.sidecars, plan.volumes, plan.coordinator) == ((), (), None)
    assert states(plan) == {"HostMemoryTier": "Supported"}
    assert {c.role for c in plan.capabilities} == {role}


def test_data_parallel_ranks_share_the_replicas_capacity() -> None:
    plan = plan_tiers(inputs(NATIVE, parallelism=Parallelism(data=4)))
    assert plan.connector is not None
    assert plan.connector["kv_connector_extra_config"]["cpu_bytes_to_use"] == 25 * GIB
    assert plan.shm_bytes == 100 * GIB


def test_capacity_is_also_told_in_tokens_and_blocks() -> None:
    plan = plan_tiers(inputs(NATIVE))
    assert (plan.capacity_tokens, plan.capacity_blocks) == (409_600, 6_400)  # 100 GiB / 256 KiB, / 64
    unknown = plan_tiers(inputs(NATIVE, profile=None))
    assert (unknown.capacity_tokens, unknown.capacity_blocks, unknown.findings) == (None, None, ())


def test_a_tier_smaller_than_a_block_is_refused() -> None:
    tiny = {"hostMemory": {"backend": "Native", "capacityPerReplica": "1Mi"}}
    assert [f.reason for f in plan_tiers(inputs(tiny)).findings] == ["TierTooSmall"]


@pytest.mark.parametrize(
    ("policy", "preset", "says"),
    [
        (NATIVE, "cpu", "only from CUDA-alike and XPU devices"),
        (LMCACHE, "cpu", "does not hold LMCache"),
        (SHARED, "amd-mi300x", "does not hold LMCache"),
    ],
    ids=["native-cpu", "lmcache-cpu", "lmcache-amd"],
)
@pytest.mark.parametrize(("reaction", "severity"), [("Warn", "Warning"), ("Reject", "Error")])
def test_what_cannot_be_carried_out_is_left_out_and_said(
    policy: dict[str, Any], preset: str, says: str, reaction: str, severity: str
) -> None:
    plan = plan_tiers(inputs(policy | {"onUnsupported": reaction}, preset))
    (finding,) = plan.findings
    assert (finding.path, finding.reason, finding.severity) == (
        "spec.kvTierPolicyRef",
        "TierUnsupported",
        severity,
    )
    assert set(states(plan).values()) == {"Unsupported"}
    assert set(states(plan)) == {"HostMemoryTier"} | ({"SharedTier"} if "shared" in policy else set())
    assert all(says in c.reason for c in plan.capabilities)
    assert (plan.connector, plan.sidecars, plan.coordinator, plan.memory_bytes) == (None, (), None, 0)


def test_an_image_of_the_users_own_is_taken_at_its_word() -> None:
    plan = plan_tiers(inputs(LMCACHE, "cpu", engine_packages=None))
    assert (states(plan), plan.findings) == ({"HostMemoryTier": "Supported"}, ())


@pytest.mark.parametrize(
    ("attention", "state"),
    [
        ("GQA", "Supported"),
        ("MLA", "Supported"),
        ("Hybrid", "Unsupported"),
        ("SlidingWindow", "Unsupported"),
        (None, "Approximated"),
    ],
)
def test_lmcache_takes_models_of_one_kind_of_layer(attention: Attention | None, state: str) -> None:
    plan = plan_tiers(inputs(LMCACHE, profile=replace(MODEL, attention=attention)))
    assert states(plan) == {"HostMemoryTier": state}
    assert (plan.connector is None) == (state == "Unsupported")
    assert states(plan_tiers(inputs(NATIVE, profile=replace(MODEL, attention=attention)))) == {
        "HostMemoryTier": "Supported"
    }


def server(plan: TierPlan) -> dict[str, Any]:
    (sidecar,) = plan.sidecars
    return sidecar


def option(args: list[str], name: str) -> str | None:
    found = [text.partition("=")[2] for text in args if text.partition("=")[0] == name]
    assert len(found) <= 1
    return found[0] if found else None


def test_the_lmcache_server_and_the_engine_agree() -> None:
    plan = plan_tiers(inputs(LMCACHE))
    args = server(plan)["args"]
    assert plan.connector is not None
    extra = plan.connector["kv_connector_extra_config"]
    assert extra["lmcache.mp.host"] == f"tcp://{option(args, '--host')}"
    assert str(extra["lmcache.mp.port"]) == option(args, "--port")
    assert extra["lmcache.mp.mp_transfer_mode"] == option(args, "--supported-transfer-mode")
    assert (extra["lmcache.mp.mq_timeout"], extra["lmcache.mp.heartbeat_interval"]) == (5, 2)
    assert option(args, "--l1-size-gb") == "100"
    assert "--no-l1-use-lazy" in args  # lazily allocated memory is no segment, so the engine could not map it
    assert [(e.name, e.value) for e in plan.env] == [("LMCACHE_TRACK_USAGE", "false")]


def test_the_lmcache_server_is_a_sidecar_without_device_or_privilege() -> None:
    sidecar = server(plan_tiers(inputs(LMCACHE)))
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["image"] == "docker.io/vllm/vllm-openai:v0.33.0"
    assert {"name": "dshm", "mountPath": "/dev/shm"} in sidecar["volumeMounts"]
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in sidecar["env"]
    assert list(sidecar["resources"]["limits"]) == ["memory"]
    assert sidecar["securityContext"]["runAsNonRoot"]
    assert sidecar["startupProbe"]["httpGet"] == {"path": "/healthcheck", "port": 8080}
    assert "readinessProbe" not in sidecar  # an outage of the cache must not take the engine out of service


def test_memory_is_counted_where_it_is_charged() -> None:
    plan = plan_tiers(inputs(LMCACHE))
    assert (plan.shm_bytes, plan.engine_memory_bytes, plan.memory_bytes) == (
        100 * GIB,
        100 * GIB,
        102 * GIB,
    )
    assert server(plan)["resources"]["limits"] == {"memory": "102Gi"}
    assert server(plan)["resources"]["requests"]["memory"] == "2Gi"
    assert plan.capacity_bytes == 80 * GIB  # the server evicts above 0.8


@pytest.mark.parametrize(("block", "chunk"), [(16, "256"), (64, "256"), (96, "768"), (512, "512")])
def test_chunks_are_whole_blocks(block: int, chunk: str) -> None:
    plan = plan_tiers(inputs(SHARED, block_tokens=block))
    assert plan.coordinator is not None
    for args in (server(plan)["args"], list(plan.coordinator.args)):
        assert option(args, "--chunk-size") == chunk
        assert option(args, "--hash-algorithm") == "blake3"


def test_a_shared_tier_adds_a_store_and_a_coordinator() -> None:
    plan = plan_tiers(inputs(SHARED))
    args = server(plan)["args"]
    store = json.loads(option(args, "--l2-adapter") or "")
    assert store["type"] == "fs"
    mounts = {m["name"]: m["mountPath"] for m in server(plan)["volumeMounts"]}
    assert store["base_path"].startswith(mounts["lmcache-shared"] + "/")
    claim = {"name": "lmcache-shared", "persistentVolumeClaim": {"claimName": "kv"}}
    assert claim in plan.volumes
    assert option(args, "--coordinator-url") == "http://chat-lmcache.team.svc:9300"
    assert plan.coordinator is not None
    assert option(list(plan.coordinator.args), "--port") == "9300"
    assert states(plan) == {"HostMemoryTier": "Supported", "SharedTier": "Approximated"}
    defined = {e["name"] for e in server(plan)["env"]}
    assert {"POD_NAME", "POD_IP"} <= defined  # the arguments refer to them


def test_volumes_and_mounts_of_the_sidecar_match() -> None:
    for policy in (LMCACHE, SHARED):
        plan = plan_tiers(inputs(policy))
        volumes = {v["name"] for v in plan.volumes} | {"dshm"}  # dshm is the renderer's
        assert {m["name"] for m in server(plan)["volumeMounts"]} == volumes


def test_a_shared_tier_without_a_coordinators_host_is_our_mistake() -> None:
    with pytest.raises(Bug, match="coordinator"):
        plan_tiers(inputs(SHARED, coordinator_host=None))


@pytest.mark.parametrize("policy", [LMCACHE, SHARED], ids=["host", "shared"])
@pytest.mark.parametrize("part", ["server", "coordinator"])
def test_every_lmcache_option_is_one_it_takes(policy: dict[str, Any], part: str) -> None:
    plan = plan_tiers(inputs(policy))
    args = (
        server(plan)["args"] if part == "server" else list(plan.coordinator.args if plan.coordinator else ())
    )
    known = LMCACHE_OPTIONS[part]
    for text in args:
        name, equals, value = text.partition("=")
        assert known[name]["takes"] == ("value" if equals else "switch"), text
        assert value in known[name].get("choices", [value]), text


@pytest.mark.parametrize("policy", [NATIVE, LMCACHE, SHARED], ids=["native", "lmcache", "shared"])
@pytest.mark.parametrize("role", ["Aggregated", "Prefill", "Decode"])
def test_the_engine_takes_each_tier_alone_and_beside_the_transfer(policy: dict[str, Any], role: Role) -> None:
    accelerator = find_accelerator("nvidia-h200")
    tier = plan_tiers(inputs(policy, role=role))
    transfer = None if role == "Aggregated" else vllm.nixl_connector(role, accelerator)
    connector = vllm.combine([transfer, tier.connector])
    assert connector_problems(connector, load_vllm().versions[-1]) == ()
    engine = vllm.plan(
        EngineInputs(
            role=role,
            served_name="m",
            model_ref="org/m",
            accelerator=accelerator,
            version="0.33.0",
            connector=connector,
            extra_env=tier.env,
            tier_shm_bytes=tier.shm_bytes,
            tier_memory_bytes=tier.engine_memory_bytes,
        )
    )
    assert engine.findings == ()
    assert engine.shm_bytes == accelerator.shared_memory_bytes + 100 * GIB
    assert tier.rules
    assert all(rule.reason and rule.source for rule in tier.rules)


def test_equal_inputs_give_equal_plans() -> None:
    assert plan_tiers(inputs(SHARED)) == plan_tiers(inputs(SHARED))
