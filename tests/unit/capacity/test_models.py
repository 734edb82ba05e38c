"""capacity.models: every entry is derived, sourced and agrees with what its parameters weigh."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from agentic_serving.assets import templates_dir
from agentic_serving.capacity.models import find_model, load_models, read_table
from agentic_serving.errors import InvalidInput

FILES = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((templates_dir() / "models").glob("*.yaml"))
}
#: Files whose weights were counted from the fields that they record.
COUNTED = [
    name
    for name, data in FILES.items()
    if "parameters counted" in data.get("weightBytes", {}).get("source", "")
]


def n_parameters(config: dict[str, Any]) -> int:
    """Parameters of a Llama or Qwen3, dense or with experts, from the shapes of its matrices."""
    hidden, heads, head_dim = config["hidden_size"], config["num_attention_heads"], config.get("head_dim")
    head_dim = head_dim or hidden // heads
    query, key_value = hidden * heads * head_dim, 2 * hidden * config["num_key_value_heads"] * head_dim
    norms = 2 * hidden + (2 * head_dim if config["model_type"].startswith("qwen3") else 0)
    if experts := config.get("num_experts"):
        feed_forward = experts * (hidden + 3 * hidden * config["moe_intermediate_size"])
    else:
        feed_forward = 3 * hidden * config["intermediate_size"]
    embeddings = config["vocab_size"] * hidden * (1 if config["tie_word_embeddings"] else 2)
    per_layer = 2 * query + key_value + norms + feed_forward
    return int(config["num_hidden_layers"] * per_layer + embeddings + hidden)


@pytest.mark.parametrize("name", FILES)
def test_every_entry_has_a_source_for_each_number(name: str) -> None:
    data = FILES[name]
    assert len(data["configSource"]) > 20
    assert "weightBytes" not in data or len(data["weightBytes"]["source"]) > 20


@pytest.mark.parametrize("name", FILES)
def test_the_recorded_bytes_are_what_the_recorded_fields_give(name: str) -> None:
    data = FILES[name]
    assert load_models()[data["name"]].kv_bytes_per_token == data["kvBytesPerToken"]


@pytest.mark.parametrize("name", COUNTED)
def test_counted_weights_are_two_bytes_a_parameter(name: str) -> None:
    data = FILES[name]
    assert data["weightBytes"]["value"] == 2 * n_parameters(data["config"])


@pytest.mark.parametrize(
    ("name", "weight_bytes"),
    [
        # metadata.total_size of their model.safetensors.index.json.
        ("Qwen/Qwen3-32B", 65_524_246_528),
        ("Qwen/Qwen3-30B-A3B", 61_064_245_248),
        ("meta-llama/Llama-3.1-8B-Instruct", 16_060_522_496),
        ("meta-llama/Llama-3.1-70B-Instruct", 141_107_412_992),
        ("openai/gpt-oss-20b", 13_761_264_768),
    ],
)
def test_weights_agree_with_the_published_index(name: str, weight_bytes: int) -> None:
    assert load_models()[name].weight_bytes == weight_bytes


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        ("qwen/qwen3-32b", "Qwen/Qwen3-32B"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("tiny", "agentic-serving/tiny-random-llama"),
    ],
)
def test_a_model_is_found_in_any_case_and_by_alias(asked: str, found: str) -> None:
    profile = find_model(asked)
    assert profile is not None
    assert profile.name == found


@pytest.mark.parametrize("name", ["Qwen3-32B", "Qwen/Qwen3-32B-Base", "", "../qwen3-32b"])
def test_a_similar_name_is_another_model(name: str) -> None:
    assert find_model(name) is None


def test_an_fp8_cache_is_half_as_large_where_all_of_it_is_quantised() -> None:
    for name in ("Qwen/Qwen3-32B", "openai/gpt-oss-120b", "deepseek-ai/DeepSeek-R1"):
        assert (
            2 * load_models(kv_element_bytes=1)[name].kv_bytes_per_token
            == load_models()[name].kv_bytes_per_token
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"kvBytesPerToken": 1}, "says kvBytesPerToken 1, but its config gives 147456", id="wrong bytes"
        ),
        pytest.param({"configSource": "?"}, "configSource", id="no source"),
        pytest.param({"licence": "x"}, "licence: Extra inputs are not permitted", id="a key we do not know"),
        pytest.param({"config": {"model_type": "hyena"}}, "not a family", id="a family we do not know"),
        pytest.param({"aliases": ["QWEN/qwen3-8b"]}, "which another file names too", id="its own name again"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, change: dict[str, object], message: str) -> None:
    (tmp_path / "qwen3-8b.yaml").write_text(yaml.safe_dump({**FILES["qwen3-8b"], **change}))
    with pytest.raises(InvalidInput, match=message) as refused:
        read_table(tmp_path)
    assert refused.value.field == "qwen3-8b.yaml"
