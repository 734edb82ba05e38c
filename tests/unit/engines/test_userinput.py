"""engines.userinput: what users add is refused with the field to use instead, or followed by the whole stack."""

from dataclasses import replace
from typing import Any

import pytest

from agentic_serving.capacity.accelerator import find_accelerator
from agentic_serving.capacity.sizing import Parallelism
from agentic_serving.engines import vllm
from agentic_serving.engines.base import EngineInputs, EnginePlan, SecretKey, UserEnv

BASE = EngineInputs(
    role="Aggregated",
    served_name="mine",
    model_ref="/models/mine",
    accelerator=find_accelerator("nvidia-h200"),
    version="0.33.0",
)


def plan(*args: str, **changes: Any) -> EnginePlan:
    return vllm.plan(replace(BASE, user_args=args, **changes))


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("--model=x", "spec.model.source"),
        ("--served-model-name=x", "spec.model.name"),
        ("-tp=4", "parallelism.tensor"),
        ("--tensor_parallel_size=4", "parallelism.tensor"),
        ("--pipeline-parallel-size=2", "parallelism.pipeline"),
        ("-dp=2", "parallelism.data"),
        ("--data-parallel-hybrid-lb", "parallelism.data"),
        ("-ep", "parallelism.expert"),
        ("--max-model-len=1", "spec.model.contextLength"),
        ("--revision=x", "huggingFace.revision"),
        ("--hf-token=secret", "tokenSecretRef"),
        ("--api-key=secret", "VLLM_API_KEY"),
        ("--no-enable-prefix-caching", "prefix routing"),
        ("--disable-prefix-caching", "prefix routing"),
        ("--shutdown-timeout=0", "spec.disruption.drainTimeout"),
        ("--disable-force-include-usage", "token accounting"),
        ("--kv-transfer-config={}", "spec.kvTierPolicyRef"),
        ("--kv-transfer-config.kv_role=kv_both", "spec.kvTierPolicyRef"),
        ("--kv-offloading-size=4", "spec.kvTierPolicyRef"),
        ("--kv_offloading_backend=native", "spec.kvTierPolicyRef"),
        ("--kv-events-config={}", "spec.router.prefixRouting"),
        ("--host=::1", "the pod's address"),
        ("--port=1", "the port"),
        ("--ssl-keyfile=x", "plain HTTP"),
        ("--config=/x", "spec.engine.args"),
        ("--disable-log-stats", "metrics"),
    ],
)
def test_owned_arguments_are_refused_by_name_with_what_to_do(argument: str, instead: str) -> None:
    found = plan("--enforce-eager", argument)
    (finding,) = found.findings
    assert (finding.path, finding.reason, finding.severity) == (
        "spec.engine.args[1]",
        "ArgumentOwned",
        "Error",
    )
    assert instead in finding.message
    assert "secret" not in finding.message


def test_owned_arguments_with_their_value_apart_are_refused_once() -> None:
    (finding,) = plan("--seed", "1", "-tp", "4").findings
    assert (finding.path, finding.reason) == ("spec.engine.args[2]", "ArgumentOwned")


@pytest.mark.parametrize("args", [("-tp",), ("--data-parallel-size=many",), ("--port",)], ids=str)
def test_an_owned_argument_is_not_reported_for_its_form_as_well(args: tuple[str, ...]) -> None:
    assert [f.reason for f in plan(*args).findings] == ["ArgumentOwned"]


def test_data_parallel_ranks_each_run_as_many_requests() -> None:
    found = plan("--max-num-seqs=32", parallelism=Parallelism(data=4))
    assert found.max_num_seqs == 128
    assert "--max-num-seqs=32" in found.args


def test_findings_come_in_the_order_of_the_arguments() -> None:
    found = plan("--nonsense", "-tp", "4", "--dtype=x", "--block-size=0")
    assert [f.reason for f in found.findings] == [
        "UnknownArgument",
        "ArgumentOwned",
        "InvalidArgument",
        "InvalidArgument",
    ]


def test_generated_options_are_owned_even_where_the_table_is_silent() -> None:
    connector = vllm.nixl_connector("Decode", find_accelerator("amd-mi300x"))
    amd = {
        "role": "Decode",
        "accelerator": find_accelerator("amd-mi300x"),
        "peer_tensor": 2,
        "connector": connector,
    }
    assert [f.reason for f in plan("--attention-backend=TRITON_ATTN", **amd).findings] == ["ArgumentOwned"]
    assert plan("--attention-backend=FLASHINFER").findings == ()


@pytest.mark.parametrize(
    "args", [("--block-size=128", "--max-num-seqs=32"), ("--block-size", "128", "--max-num-seqs", "32")]
)
def test_block_size_and_concurrency_are_followed_by_the_stack(args: tuple[str, ...]) -> None:
    found = plan(*args, "--seed=1")
    assert found.findings == ()
    assert (found.block_tokens, found.max_num_seqs) == (128, 32)
    assert [a for a in found.args if "block-size" in a] == ["--block-size=128"]
    assert found.args[-1] == "--seed=1"
    tuning = vllm.tuning(args, (), BASE.accelerator, "0.33.0")
    assert (tuning.block_tokens, tuning.max_num_seqs) == (128, 32)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_numbers_that_cannot_be_followed_are_refused(value: str) -> None:
    found = plan(f"--max-num-seqs={value}")
    assert [f.reason for f in found.findings] == ["InvalidArgument"]
    assert found.max_num_seqs == 256


def test_a_cpu_takes_blocks_of_a_multiple_of_32() -> None:
    cpu = find_accelerator("cpu")
    assert [f.reason for f in plan("--block-size=48", accelerator=cpu).findings] == ["InvalidArgument"]
    assert plan("--block-size=96", accelerator=cpu).findings == ()


def test_a_named_parser_is_enough_for_tool_calls() -> None:
    found = plan("--tool-call-parser=llama3_json", "--chat-template=/t.jinja")
    assert found.findings == ()
    assert "--enable-auto-tool-choice" in found.args
    assert found.args.count("--tool-call-parser=llama3_json") == 1
    assert {c.intent: c.state for c in found.capabilities}["ToolCalling"] == "Supported"


def test_tool_choice_without_a_parser_would_keep_the_engine_from_starting() -> None:
    assert [f.reason for f in plan("--enable-auto-tool-choice").findings] == ["MissingParser"]


def test_a_family_gives_way_to_the_users_parser() -> None:
    found = plan("--tool-call-parser=qwen3_xml", model_ref="Qwen/Qwen3-32B")
    assert [a for a in found.args if "parser" in a] == [
        "--tool-call-parser=qwen3_xml",
        "--reasoning-parser=qwen3",
    ]


def test_tool_choice_can_be_turned_off() -> None:
    found = plan("--disable-auto-tool-choice", model_ref="Qwen/Qwen3-32B")
    assert found.findings == ()
    assert [a for a in found.args if "tool" in a] == []


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("HF_TOKEN", "tokenSecretRef"),
        ("HF_HOME", "writable volume"),
        ("VLLM_PORT", "internal ports"),
        ("VLLM_NIXL_SIDE_CHANNEL_HOST", "prefill and decode"),
        ("LMCACHE_CONFIG_FILE", "KVTierPolicy"),
        ("CUDA_VISIBLE_DEVICES", "device plugin"),
        ("VLLM_NO_USAGE_STATS", "usage reports"),
    ],
)
def test_owned_variables_are_refused_by_name(name: str, instead: str) -> None:
    env = (UserEnv(name="NCCL_DEBUG", value="WARN"), UserEnv(name=name, value="x"))
    (finding,) = plan(user_env=env).findings
    assert (finding.path, finding.reason) == ("spec.engine.env[1].name", "EnvironmentOwned")
    assert instead in finding.message


def test_other_variables_come_last_and_secrets_by_reference() -> None:
    secret = SecretKey(name="keys", key="vllm")
    found = plan(
        user_env=(UserEnv(name="NCCL_DEBUG", value="WARN"), UserEnv(name="VLLM_API_KEY", secret=secret))
    )
    assert found.findings == ()
    assert [e.to_dict() for e in found.env[-2:]] == [
        {"name": "NCCL_DEBUG", "value": "WARN"},
        {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "vllm"}}},
    ]


def test_a_variable_given_twice_is_refused_and_appears_once() -> None:
    env = (UserEnv(name="NCCL_DEBUG", value="WARN"), UserEnv(name="NCCL_DEBUG", value="INFO"))
    found = plan(user_env=env)
    assert [f.reason for f in found.findings] == ["DuplicateVariable"]
    assert [e.value for e in found.env if e.name == "NCCL_DEBUG"] == ["WARN"]


def test_development_mode_is_only_a_warning() -> None:
    (finding,) = plan(user_env=(UserEnv(name="VLLM_SERVER_DEV_MODE", value="1"),)).findings
    assert (finding.reason, finding.severity) == ("DevelopmentMode", "Warning")
