"""From a Hugging Face `config.json` to a `ModelProfile`, or a clear "cannot tell".

A family or a field that is not understood gives a reason, never a guess: a wrong number here would size
caches and pass models that do not fit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentic_serving.capacity import kv
from agentic_serving.capacity.hfconfig import CannotTellError, HfConfig
from agentic_serving.capacity.layers import Layers, read_layers
from agentic_serving.capacity.profile import Attention, ModelProfile
from agentic_serving.capacity.state import state_layer_bytes
from agentic_serving.errors import InvalidInput

__all__ = ["CannotTell", "inspect_config", "inspect_path"]

#: Any of these, set above 1, marks a mixture of experts.
_EXPERT_COUNTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
#: DeepSeek sparse attention stores the indexer's key in fp8 with one fp32 scale per 128 values.
#: Source: vLLM `vllm/model_executor/models/deepseek_v2.py`, class Indexer, `quant_block_size`.
_INDEXER_SCALE_GROUP, _INDEXER_SCALE_BYTES = 128, 4


@dataclass(frozen=True, slots=True)
class CannotTell:
    """Why no profile could be derived, and what the user can do."""

    reason: str


def inspect_config(
    config: Mapping[str, Any], *, kv_element_bytes: int = 2, name: str = ""
) -> ModelProfile | CannotTell:
    """Derive what sizing needs from the contents of a `config.json`.

    Args:
        config: the parsed file; a nested `text_config` is followed.
        kv_element_bytes: 2 for a cache in bf16 or fp16, 1 for fp8.
        name: the model's name in the result; else `_name_or_path`, else `model_type`.
    """
    try:
        fields = HfConfig(config)
        return _profile(
            fields, kv_element_bytes, name or str(config.get("_name_or_path") or fields.model_type)
        )
    except CannotTellError as error:
        return CannotTell(
            f"cannot tell the KV bytes per token of this configuration: {error}. "
            "Set spec.model.profile by hand (the engine's log states the size of its cache)."
        )


def inspect_path(path: Path, *, kv_element_bytes: int = 2) -> ModelProfile | CannotTell:
    """Derive a profile from a `config.json`, or from the directory of a model with its weights beside it.

    Raises:
        InvalidInput: the file is not there or is not a JSON object.
    """
    file = path / "config.json" if path.is_dir() else path
    config = _read_json(file)
    result = inspect_config(config, kv_element_bytes=kv_element_bytes)
    if isinstance(result, CannotTell):
        return result
    weights = _weight_bytes(file.parent)
    return result if weights is None else _with_weights(result, weights)


def _profile(config: HfConfig, element_bytes: int, name: str) -> ModelProfile:
    layers = read_layers(config)
    if layers.n_full + layers.n_window == 0:
        raise CannotTellError("it has no attention layer")
    full, window, heads, head_dim = _token_bytes(config, layers, element_bytes)
    latent = "kv_lora_rank" in config
    n_heads = config.optional_count("num_attention_heads", "n_head")
    return ModelProfile(
        name=name,
        attention=_attention(layers, latent=latent, n_kv_heads=heads, n_heads=n_heads),
        kv_bytes_per_token=full + _indexer_bytes(config, layers),
        kv_element_bytes=element_bytes,
        window_bytes_per_token=window,
        window_tokens=layers.window_tokens,
        state_bytes_per_sequence=layers.n_state * state_layer_bytes(config) if layers.n_state else 0,
        n_kv_heads=heads,
        n_attention_heads=n_heads,
        n_layers=config.optional_count("num_hidden_layers", "n_layer"),
        head_dim=head_dim,
        mixture_of_experts=any(config.index(key) > 1 for key in _EXPERT_COUNTS),
        max_context_tokens=config.optional_count("max_position_embeddings", "n_positions"),
        sources=(f"derived from config.json, model_type {config.model_type}",),
    )


def _token_bytes(config: HfConfig, layers: Layers, element_bytes: int) -> tuple[int, int, int, int]:
    """(bytes per token of full layers, of window layers, KV heads, head size)."""
    if "kv_lora_rank" in config:
        rank, rope = config.count("kv_lora_rank"), config.count("qk_rope_head_dim")
        if layers.n_window:
            raise CannotTellError("latent attention with sliding windows is not modelled")
        full = kv.latent_token_bytes(
            n_layers=layers.n_full, kv_lora_rank=rank, rope_head_dim=rope, element_bytes=element_bytes
        )
        return full, 0, 1, rank + rope
    heads, head_dim = _kv_heads(config), _head_dim(config)
    full = kv.grouped_token_bytes(
        n_layers=layers.n_full,
        n_kv_heads=config.optional_count("num_global_key_value_heads") or heads,  # Gemma 4
        head_dim=config.optional_count("global_head_dim") or head_dim,
        element_bytes=element_bytes,
    )
    window = kv.grouped_token_bytes(
        n_layers=layers.n_window, n_kv_heads=heads, head_dim=head_dim, element_bytes=element_bytes
    )
    return full, window, heads, head_dim


def _kv_heads(config: HfConfig) -> int:
    if config.get("multi_query") is True:
        return 1
    return config.count("num_key_value_heads", "num_kv_heads", "num_attention_heads", "n_head")


def _head_dim(config: HfConfig) -> int:
    explicit = config.optional_count("head_dim", "attention_head_dim")
    if explicit is not None:
        return explicit
    hidden, heads = config.count("hidden_size", "n_embd"), config.count("num_attention_heads", "n_head")
    if hidden % heads:
        raise CannotTellError("head_dim is missing and hidden_size is not a multiple of num_attention_heads")
    return hidden // heads


def _indexer_bytes(config: HfConfig, layers: Layers) -> int:
    """DeepSeek sparse attention: each layer that runs the indexer also keeps its key, always in fp8."""
    head_dim = config.optional_count("index_head_dim")
    if head_dim is None:
        return 0
    kinds = config.optional_list("indexer_types")  # GLM 5.2: "shared" layers reuse another layer's choice
    n_layers = layers.n_full if kinds is None else kinds.count("full")
    return n_layers * (head_dim + head_dim // _INDEXER_SCALE_GROUP * _INDEXER_SCALE_BYTES)


def _attention(layers: Layers, *, latent: bool, n_kv_heads: int, n_heads: int | None) -> Attention:
    if layers.n_state:
        return "Hybrid"
    if layers.n_window:
        return "SlidingWindow"
    if latent:
        return "MLA"
    if n_kv_heads == 1:
        return "MQA"
    return "MHA" if n_kv_heads == n_heads else "GQA"


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(str(file), f"cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise InvalidInput(str(file), f"is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidInput(str(file), "is not a JSON object; a model's config.json is expected")
    return data


def _weight_bytes(folder: Path) -> int | None:
    """Bytes of the weights beside a `config.json`; None where there are none."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        metadata = _read_json(index).get("metadata")
        total = metadata.get("total_size") if isinstance(metadata, dict) else None
        if isinstance(total, int) and total > 0:
            return total
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) or None


def _with_weights(profile: ModelProfile, weight_bytes: int) -> ModelProfile:
    return replace(
        profile, weight_bytes=weight_bytes, sources=(*profile.sources, "weights: the files beside it")
    )
