"""engines.vllm: every generated command line is one that the engine takes, and says what was asked for."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.capacity.accelerator import Setting, find_accelerator, load_accelerators
from agentic_serving.capacity.sizing import Parallelism
from agentic_serving.engines import vllm
from agentic_serving.engines.base import EngineInputs, EnginePlan, KVEvents, Role, SecretKey, UserEnv
from agentic_serving.engines.connectors import connector_problems
from agentic_serving.engines.options import check, parse
from agentic_serving.engines.tables import load_vllm
from agentic_serving.errors import Bug

TABLE = load_vllm().versions[-1]
ROLES = ("Aggregated", "Prefill", "Decode")
OFFLOAD = {
    "kv_connector": "OffloadingConnector",
    "kv_role": "kv_both",
    "kv_connector_extra_config": {"cpu_bytes_to_use": 2**30},
}


def inputs(preset: str = "nvidia-h200", role: Role = "Aggregated", **changes: Any) -> EngineInputs:
    base = EngineInputs(
        role=role,
        served_name="qwen3-32b",
        model_ref="Qwen/Qwen3-32B",
        accelerator=find_accelerator(preset),
        version="0.33.0",
    )
    return replace(base, **changes)


def option(plan: EnginePlan, name: str) -> str | None:
    """The value of the one generated option of that name; an empty string for a switch, None if it is not there."""
    values = [o.value or "" for o in plan.options if o.name == name]
    assert len(values) <= 1
    return values[0] if values else None


def variables(plan: EnginePlan) -> dict[str, Any]:
    return {e.name: e.value if e.value is not None else e.to_dict()["valueFrom"] for e in plan.env}


CASES = list(
    itertools.product(
        sorted(load_accelerators()),
        ROLES,
        ["none", "offload"],
        [None, KVEvents()],
        [Parallelism(), Parallelism(tensor=4, pipeline=2, data=2, expert=True)],
        ["Qwen/Qwen3-32B", "/models/x"],
    )
)


@pytest.mark.parametrize(("preset", "role", "tier", "events", "split", "model"), CASES)
def test_every_command_line_is_one_the_engine_takes(
    preset: str, role: Role, tier: str, events: KVEvents | None, split: Parallelism, model: str
) -> None:
    accelerator = find_accelerator(preset)
    transfer = None if role == "Aggregated" else vllm.nixl_connector(role, accelerator)
    connector = vllm.combine([transfer, OFFLOAD if tier == "offload" else None])
    case = inputs(
        preset,
        role,
        connector=connector,
        kv_events=events,
        parallelism=split,
        model_ref=model,
        peer_tensor=1,
        revision="main",
        context_length=131072,
        custom_image=True,
    )
    plan = vllm.plan(case)
    assert plan.findings == ()
    assert plan.args[0] == model
    assert check(plan.args[1:], TABLE) == []
    assert plan.args[1:] == tuple(o.text for o in plan.options)
    assert connector_problems(connector, TABLE) == ()
    assert all(o.rule.reason and o.rule.source and o.rule.id for o in (*plan.options, *plan.env))
    assert vllm.plan(case) == plan


def test_an_aggregated_engine_says_what_serving_agents_needs() -> None:
    plan = vllm.plan(inputs(parallelism=Parallelism(tensor=4), context_length=40960, revision="abc"))
    assert plan.command == ("vllm", "serve")
    assert plan.args == (
        "Qwen/Qwen3-32B",
        "--served-model-name=qwen3-32b",
        "--port=8000",
        "--revision=abc",
        "--max-model-len=40960",
        "--tensor-parallel-size=4",
        "--enable-prefix-caching",
        "--block-size=64",
        "--max-num-seqs=256",
        "--shutdown-timeout=300",
        "--enable-force-include-usage",
        "--enable-prompt-tokens-details",
        "--disable-access-log-for-endpoints=/health,/metrics,/v1/models",
        "--enable-auto-tool-choice",
        "--tool-call-parser=hermes",
        "--reasoning-parser=qwen3",
    )
    assert plan.ports == (("http", 8000),)


@pytest.mark.parametrize(("role", "kv_role"), [("Prefill", "kv_producer"), ("Decode", "kv_consumer")])
def test_prefill_sends_and_decode_receives(role: Role, kv_role: str) -> None:
    connector = vllm.nixl_connector(role, find_accelerator("nvidia-h200"))
    plan = vllm.plan(inputs(role=role, connector=connector))
    config = json.loads(option(plan, "--kv-transfer-config") or "")
    assert config == {
        "kv_connector": "NixlConnector",
        "kv_role": kv_role,
        "kv_load_failure_policy": "recompute",
    }
    assert variables(plan)["VLLM_NIXL_SIDE_CHANNEL_HOST"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert plan.nixl_port == 5600
    assert ("nixl", 5600) in plan.ports


def test_transfer_on_a_cpu_goes_through_host_memory_and_tcp() -> None:
    connector = vllm.nixl_connector("Decode", find_accelerator("cpu"))
    assert connector["kv_buffer_device"] == "cpu"
    plan = vllm.plan(inputs("cpu", "Decode", connector=connector, custom_image=True))
    assert variables(plan)["UCX_TLS"] == "tcp"
    assert "UCX_TLS" not in variables(vllm.plan(inputs(role="Decode", connector=connector)))


def test_transfer_and_offload_become_one_connector_that_tries_the_transfer_first() -> None:
    nixl = vllm.nixl_connector("Decode", find_accelerator("nvidia-h200"))
    combined = vllm.combine([nixl, OFFLOAD])
    assert combined is not None
    assert (combined["kv_connector"], combined["kv_role"]) == ("MultiConnector", "kv_both")
    assert combined["kv_load_failure_policy"] == "recompute"
    parts = combined["kv_connector_extra_config"]["connectors"]
    assert [part["kv_connector"] for part in parts] == ["NixlConnector", "OffloadingConnector"]
    assert parts[0]["kv_role"] == "kv_consumer"
    plan = vllm.plan(inputs(role="Decode", connector=combined))
    assert not [text for text in plan.args if text.startswith("--kv-offloading")]
    assert plan.nixl_port == 5600


def test_combining_one_or_none_adds_nothing() -> None:
    assert vllm.combine([None, None]) is None
    assert vllm.combine([None, OFFLOAD]) == OFFLOAD


@pytest.mark.parametrize(
    ("connector", "problem"),
    [
        ({"kv_connector": "P2pNcclConnector", "kv_role": "kv_both"}, "unknown connector"),
        ({"kv_connector": "NixlConnector"}, "kv_role None"),
        ({"kv_connector": "NixlConnector", "kv_role": "kv_both", "kv_rank": 0}, "unknown field kv_rank"),
        (
            {"kv_connector": "NixlConnector", "kv_role": "kv_both", "kv_connector_extra_config": {"x": 1}},
            "does not read x",
        ),
        (vllm.combine([OFFLOAD, {"kv_connector": "Bogus", "kv_role": "kv_both"}]), "unknown connector Bogus"),
    ],
    ids=str,
)
def test_connectors_that_the_engine_would_accept_and_fail_on_are_our_mistake(
    connector: dict[str, object] | None, problem: str
) -> None:
    with pytest.raises(Bug, match=problem):
        vllm.plan(inputs(connector=connector))


def test_events_carry_the_port_by_which_the_picker_knows_the_pod() -> None:
    plan = vllm.plan(inputs(role="Decode", port=8200, kv_events=KVEvents(), served_name="org/name"))
    config = json.loads(option(plan, "--kv-events-config") or "")
    assert config == {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": "tcp://*:5557",
        "topic": "kv@$(POD_IP):8000@org/name",
    }
    # Kubernetes expands $(POD_IP) only where the variable is defined.
    assert variables(plan)["POD_IP"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert plan.kv_events_port == 5557
    assert option(plan, "--port") == "8200"


@pytest.mark.parametrize(
    ("preset", "tensor", "peer", "backend"),
    [
        ("amd-mi300x", 4, 1, "ROCM_ATTN"),
        ("amd-mi300x", 4, 4, None),
        ("amd-mi300x", 4, None, None),
        ("nvidia-h200", 4, 1, None),
    ],
)
def test_amd_pools_of_different_width_agree_on_a_layout(
    preset: str, tensor: int, peer: int | None, backend: str | None
) -> None:
    case = inputs(
        preset,
        "Decode",
        parallelism=Parallelism(tensor=tensor),
        peer_tensor=peer,
        connector=vllm.nixl_connector("Decode", find_accelerator(preset)),
    )
    assert option(vllm.plan(case), "--attention-backend") == backend


def test_weights_from_the_hub_bring_their_token_by_reference() -> None:
    plan = vllm.plan(inputs(hf_token=SecretKey(name="hf", key="token")))
    assert variables(plan)["HF_TOKEN"] == {"secretKeyRef": {"name": "hf", "key": "token"}}
    assert "HF_HUB_OFFLINE" not in variables(plan)


def test_weights_on_a_volume_need_no_hub() -> None:
    found = variables(vllm.plan(inputs(model_ref="/models/x", hf_token=SecretKey(name="hf", key="token"))))
    assert found["HF_HUB_OFFLINE"] == "1"
    assert "HF_TOKEN" not in found


def test_caches_lie_on_the_writable_volume() -> None:
    found = variables(vllm.plan(inputs(home_dir="/scratch")))
    assert [found[n] for n in ("HOME", "HF_HOME", "VLLM_CACHE_ROOT")] == [
        "/scratch",
        "/scratch/huggingface",
        "/scratch/vllm",
    ]
    assert found["VLLM_NO_USAGE_STATS"] == "1"
    assert int(found["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > 90  # the sidecar's idle time in seconds
    assert not [name for name in found if name in {"VLLM_PORT", "PYTHONHASHSEED"}]


def test_the_cpu_preset_brings_its_variables_unless_the_user_sets_them() -> None:
    found = variables(vllm.plan(inputs("cpu")))
    assert (found["VLLM_CPU_KVCACHE_SPACE"], found["VLLM_CPU_NUM_OF_RESERVED_CPU"]) == ("32", "1")
    own = (UserEnv(name="VLLM_CPU_KVCACHE_SPACE", value="2"),)
    plan = vllm.plan(inputs("cpu", user_env=own))
    assert plan.findings == ()
    assert [e.value for e in plan.env if e.name == "VLLM_CPU_KVCACHE_SPACE"] == ["2"]
    tuning = vllm.tuning((), own, find_accelerator("cpu"), "0.33.0")
    assert tuning.kv_cache_bytes == 2 * 2**30


def test_options_of_an_accelerator_give_way_to_the_users() -> None:
    eager = Setting(name="--dtype", value="float16", reason="the device lacks bfloat16", source="a manual")
    accelerator = replace(find_accelerator("cpu"), args=(eager,))
    assert option(vllm.plan(inputs(accelerator=accelerator)), "--dtype") == "float16"
    plan = vllm.plan(inputs(accelerator=accelerator, user_args=("--dtype=float32",)))
    assert plan.findings == ()
    assert [text for text in plan.args if text.startswith("--dtype")] == ["--dtype=float32"]


def test_shared_memory_and_limits_count_the_tier() -> None:
    gib = 2**30
    plan = vllm.plan(
        inputs(tier_shm_bytes=100 * gib, tier_memory_bytes=100 * gib, host_memory_bytes=64 * gib)
    )
    assert plan.shm_bytes == 120 * gib  # 20 GiB of the preset
    assert (plan.memory_request_bytes, plan.memory_limit_bytes) == (164 * gib, 164 * gib)
    plain = vllm.plan(inputs())
    assert (plain.memory_request_bytes, plain.memory_limit_bytes) == (None, None)
    asked = vllm.plan(inputs(tier_memory_bytes=100 * gib))
    assert (asked.memory_request_bytes, asked.memory_limit_bytes) == (100 * gib, None)
    assert vllm.plan(inputs("cpu")).memory_limit_bytes == 64 * gib


@pytest.mark.parametrize("drain_s", [0, 30, 3600])
def test_the_pod_outlives_its_drain(drain_s: int) -> None:
    plan = vllm.plan(inputs(shutdown_timeout_s=drain_s))
    assert option(plan, "--shutdown-timeout") == str(drain_s)
    assert plan.termination_grace_s > plan.pre_stop_s + drain_s


def test_probes_ask_the_engine_and_startup_outlasts_loading() -> None:
    plan = vllm.plan(inputs(port=8200))
    startup = plan.probes.startup.to_dict()
    assert startup["httpGet"] == {"path": "/health", "port": 8200}
    assert startup["periodSeconds"] * startup["failureThreshold"] == 7200
    assert variables(plan)["VLLM_ENGINE_READY_TIMEOUT_S"] == "7200"


def states(plan: EnginePlan) -> dict[str, str]:
    return {c.intent: c.state for c in plan.capabilities}


def test_abilities_say_what_is_and_what_is_not() -> None:
    nvidia = find_accelerator("nvidia-h200")
    prefill = vllm.plan(inputs(role="Prefill", connector=vllm.nixl_connector("Prefill", nvidia)))
    assert states(prefill) == {
        "PrefixCaching": "Supported",
        "DrainOnShutdown": "Approximated",
        "UsageReporting": "Supported",
        "ToolCalling": "Supported",
        "PrefillDecodeTransfer": "Supported",
    }
    spread = vllm.plan(inputs(kv_events=KVEvents(), parallelism=Parallelism(data=2), shutdown_timeout_s=0))
    assert states(spread)["PrecisePrefixEvents"] == "Approximated"
    assert states(spread)["DrainOnShutdown"] == "Unsupported"
    unknown = vllm.plan(inputs(model_ref="/models/x", served_name="mine"))
    (tools,) = [c for c in unknown.capabilities if c.intent == "ToolCalling"]
    assert tools.state == "Unsupported"
    assert tools.reason.startswith("no tool-call parser is known for this model")
    for plan in (prefill, spread, unknown):
        assert all(bool(c.reason) == (c.state != "Supported") for c in plan.capabilities)


def test_transfer_is_refused_where_the_image_cannot_import_it() -> None:
    connector = vllm.nixl_connector("Decode", find_accelerator("cpu"))
    plan = vllm.plan(inputs("cpu", "Decode", connector=connector))
    assert [f.reason for f in plan.findings] == ["TransferUnsupported"]
    assert states(plan)["PrefillDecodeTransfer"] == "Unsupported"


def test_a_refused_version_is_a_finding_like_any_other() -> None:
    plan = vllm.plan(inputs(version="0.1.0", user_args=("--nonsense",)))
    assert [f.reason for f in plan.findings] == ["EngineVersionUnsupported", "UnknownArgument"]


def test_a_reference_that_looks_like_an_option_is_refused() -> None:
    plan = vllm.plan(inputs(model_ref="--help", served_name="x"))
    assert [f.reason for f in plan.findings] == ["InvalidModelReference"]


def test_the_tokenizer_renders_the_same_model() -> None:
    assert vllm.tokenizer_args("org/m", revision="r", port=8001) == (
        "launch",
        "render",
        "org/m",
        "--port=8001",
        "--revision=r",
    )


HOSTILE = st.text(min_size=1, max_size=40) | st.sampled_from(
    ["--port=1", "$(POD_IP)", "a b", "'; rm -rf /", '"}', "$$(HF_TOKEN)", "x\n--host=0.0.0.0", "{{ x }}"]
)


@given(name=HOSTILE, model=HOSTILE, revision=HOSTILE)
def test_hostile_names_stay_single_arguments(name: str, model: str, revision: str) -> None:
    case = inputs(served_name=name, model_ref="/m/" + model, revision=revision, kv_events=KVEvents())
    plan = vllm.plan(case)
    assert len(plan.args) == 1 + len(plan.options)
    assert [a.problem for a in parse(plan.args[1:], TABLE)] == [None] * len(plan.options)
    assert {a.name for a in parse(plan.args[1:], TABLE)} == {o.name for o in plan.options}
    # Kubernetes reads $$( as a plain $(; nothing of the user's is expanded.
    served = option(plan, "--served-model-name")
    assert served is not None
    assert served.replace("$$(", "").count("$(") == 0
    topic = json.loads(option(plan, "--kv-events-config") or "")["topic"]
    assert topic.replace("$$(", "").count("$(") == 1  # ours: POD_IP
