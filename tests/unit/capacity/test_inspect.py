"""capacity.inspect: configurations of real families with numbers worked out by hand, and clear refusals."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentic_serving.capacity.inspect import CannotTell, inspect_config, inspect_path
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.errors import InvalidInput

CASES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "configs").glob("*.json"))
}
READABLE = [name for name, case in CASES.items() if "expect" in case]
UNREADABLE = [name for name, case in CASES.items() if "cannot_tell" in case]

#: Qwen3-32B, trimmed to what the cache needs.
QWEN3: dict[str, Any] = CASES["gqa-qwen3"]["config"]


def derived(config: dict[str, Any], **options: int) -> ModelProfile:
    result = inspect_config(config, **options)
    assert isinstance(result, ModelProfile), result
    return result


@pytest.mark.parametrize("name", READABLE)
def test_a_known_family_gives_the_bytes_worked_out_by_hand(name: str) -> None:
    case = CASES[name]
    profile = asdict(derived(case["config"]))
    assert {field: profile[field] for field in case["expect"]} == case["expect"]


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_not_understood_gives_a_reason_and_no_number(name: str) -> None:
    result = inspect_config(CASES[name]["config"])
    assert isinstance(result, CannotTell)
    assert CASES[name]["cannot_tell"] in result.reason
    assert "spec.model.profile" in result.reason


@pytest.mark.parametrize("name", CASES)
def test_every_case_says_where_its_configuration_comes_from(name: str) -> None:
    assert CASES[name]["source"]
    assert ("expect" in CASES[name]) != ("cannot_tell" in CASES[name])


def test_a_million_tokens_take_what_llama_cpp_measured() -> None:
    # DeepSeek V3.2 in fp16 without its indexer, 2^20 tokens: 68.625 GiB (https://provide.ai/the-exact-kv-cache-usage-
    # of-deepseek-v4/).
    profile = derived(CASES["mla-deepseek-r1"]["config"])
    assert profile.sequence_bytes(2**20) == 68.625 * 2**30


def test_latent_attention_saves_what_deepseek_reports() -> None:
    # arXiv:2505.09343, table 1: 70.272 KB a token for DeepSeek-V3, 516.096 KB for LLaMA-3.1 405B.
    llama_405b = {**QWEN3, "model_type": "llama", "num_hidden_layers": 126}
    assert derived(CASES["mla-deepseek-r1"]["config"]).kv_bytes_per_token == 70_272
    assert derived(llama_405b).kv_bytes_per_token == 516_096


def test_sglang_allocated_what_we_say_for_its_number_of_tokens() -> None:
    # https://github.com/vllm-project/vllm/issues/21348: Qwen3-235B-A22B-FP8 on 4 H100, tp 4: "#tokens: 367404,
    # K size: 8.23 GB, V size: 8.23 GB" on each device (SGLang's GB are 2^30 bytes).
    config = {**QWEN3, "model_type": "qwen3_moe", "num_hidden_layers": 94, "num_key_value_heads": 4}
    on_each_device = 367404 * derived(config).kv_bytes_per_token / 4
    assert on_each_device / 2 / 2**30 == pytest.approx(8.23, abs=0.005)


def test_a_sparse_attention_index_stays_in_fp8_whatever_the_cache() -> None:
    config = CASES["mla-sparse-deepseek-v3.2"]["config"]
    in_bf16, in_fp8 = derived(config), derived(config, kv_element_bytes=1)
    assert in_bf16.kv_bytes_per_token - in_fp8.kv_bytes_per_token == 61 * 576
    assert in_fp8.kv_bytes_per_token == 61 * (576 + 132)


@given(layers=st.integers(1, 200), heads=st.integers(1, 64), head_dim=st.sampled_from([32, 64, 128, 256]))
def test_the_cache_grows_with_every_size(layers: int, heads: int, head_dim: int) -> None:
    config = {**QWEN3, "num_hidden_layers": layers, "num_key_value_heads": heads, "head_dim": head_dim}
    size = derived(config).kv_bytes_per_token
    for field in ("num_hidden_layers", "num_key_value_heads", "head_dim"):
        assert derived({**config, field: 2 * config[field]}).kv_bytes_per_token == 2 * size


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(QWEN3)), inner, max_size=4)
        ),
        max_leaves=8,
    ),
    st.sampled_from([*sorted(QWEN3), "layer_types", "text_config", "linear_attn_config", "kv_lora_rank"]),
)
@example(value=[[]], field="layer_types")
def test_no_value_of_a_field_makes_it_crash(value: object, field: str) -> None:
    assert isinstance(inspect_config({**QWEN3, field: value}), ModelProfile | CannotTell)


def test_weights_come_from_the_index_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3))
    (tmp_path / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 65524246528}}')
    profile = inspect_path(tmp_path)
    assert isinstance(profile, ModelProfile)
    assert profile.weight_bytes == 65_524_246_528


def test_without_an_index_the_files_are_weighed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3))
    for part in (1, 2):
        (tmp_path / f"model-{part}.safetensors").write_bytes(b"x" * 500)
    profile = inspect_path(tmp_path / "config.json")
    assert isinstance(profile, ModelProfile)
    assert profile.weight_bytes == 1000


def test_without_weights_their_size_stays_unknown(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3))
    profile = inspect_path(tmp_path)
    assert isinstance(profile, ModelProfile)
    assert profile.weight_bytes is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "cannot be read", id="no-file"),
        pytest.param(b"{", "is not JSON", id="broken"),
        pytest.param(b"[]", "is not a JSON object", id="a-list"),
        pytest.param(b"\xff\xfe", "cannot be read", id="not-text"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as refused:
        inspect_path(tmp_path)
    assert refused.value.field == str(tmp_path / "config.json")
