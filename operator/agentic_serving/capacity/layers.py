"""Which layers of a model keep the whole context, a window of it, or a state: read from `config.json`.

Families differ in how they say so; each way is one function below, named after the field. A family that is not
listed is refused rather than guessed at: cross-layer sharing, compression and the like change the answer.

Source of the fields' meaning: Transformers' `configuration_<model_type>.py` of each family.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentic_serving.capacity.hfconfig import CannotTellError, HfConfig

__all__ = ["Layers", "read_layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """How many layers keep what. One layer can count twice (Falcon-H1 runs attention beside Mamba)."""

    n_full: int = 0
    n_window: int = 0
    n_state: int = 0
    window_tokens: int | None = None  # None exactly if n_window is 0


def _families(names: str) -> frozenset[str]:
    return frozenset(names.split())


#: Every layer is ordinary or latent attention over the whole context, unless a field says otherwise.
_PLAIN = _families(
    "arcee deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5 ernie4_5_moe gemma glm glm4 glm4_moe glm4_moe_lite "
    "glm_moe_dsa gpt_neox granite granitemoe internlm2 internlm3 kimi_k2 llama minimax_m2 nemotron olmo olmo2 olmoe "
    "phi seed_oss smollm3 stablelm"
)
#: With `sliding_window` set every layer slides.
_ALL_SLIDE = _families("mistral mixtral ministral phi3 starcoder2")
#: `sliding_window` counts only with `use_sliding_window`, from layer `max_window_layers` on.
_QWEN_SLIDE = _families("qwen2 qwen2_moe qwen2_5_vl_text qwen3 qwen3_moe qwen3_vl_text qwen3_vl_moe_text")
#: Every n-th layer is full, the others slide; the default where the configuration leaves it out.
_PATTERN_DEFAULT = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4}
#: Families that are only readable through the field that lists their layers.
_LISTED = _families(
    "bamba exaone4 falcon_h1 gemma4_text gpt_oss granitemoehybrid jamba kimi_linear lfm2 llama4_text nemotron_h "
    "olmo3 qwen3_5_moe_text qwen3_5_text qwen3_next"
)
_KNOWN = _PLAIN | _ALL_SLIDE | _QWEN_SLIDE | frozenset(_PATTERN_DEFAULT) | _LISTED

#: Fields that change what is stored in ways not modelled here; refused unless null, 0 or empty.
_NOT_MODELLED = ("num_kv_shared_layers", "use_cla", "compress_ratios")

_FULL = frozenset({"full_attention", "attention", "deepseek_sparse_attention", "*"})
_WINDOW = frozenset({"sliding_attention", "chunked_attention"})
_STATE = frozenset({"linear_attention", "mamba", "mamba2", "conv", "M"})
_NOTHING = frozenset({"moe", "mlp", "-", "E"})


def read_layers(config: HfConfig) -> Layers:
    """Count the layers by what they keep.

    Raises:
        CannotTellError: the family is not known, or a field it needs is missing.
    """
    if config.model_type not in _KNOWN:
        raise CannotTellError(f"model_type {config.model_type!r} is not a family this version knows")
    for key in _NOT_MODELLED:
        if config.get(key):
            raise CannotTellError(f"{key} is set: its effect on the cache is not modelled")
    for reader in _READERS:
        layers = reader(config)
        if layers is not None:
            return layers
    if config.model_type in _LISTED:
        raise CannotTellError(f"no field of this {config.model_type} configuration lists what its layers are")
    if config.get("sliding_window") and config.model_type not in _QWEN_SLIDE:
        raise CannotTellError("sliding_window is set, but nothing says which layers slide")
    return Layers(n_full=_n_layers(config))


def _n_layers(config: HfConfig) -> int:
    return config.count("num_hidden_layers", "n_layer", "num_layers")


def _from_kinds(kinds: Sequence[Any], config: HfConfig, field: str) -> Layers:
    counts: Counter[str] = Counter()
    for kind in kinds:
        for group, names in (("full", _FULL), ("window", _WINDOW), ("state", _STATE), ("nothing", _NOTHING)):
            if isinstance(kind, str) and kind in names:
                counts[group] += 1
                break
        else:
            raise CannotTellError(f"{field} holds {kind!r}, a kind of layer this version does not know")
    return Layers(
        n_full=counts["full"],
        n_window=counts["window"],
        n_state=counts["state"],
        window_tokens=config.count("sliding_window", "attention_chunk_size") if counts["window"] else None,
    )


def _hybrid_override_pattern(config: HfConfig) -> Layers | None:
    """Nemotron-H: one letter a layer; M Mamba, * attention, - MLP, E experts."""
    pattern = config.get("hybrid_override_pattern")
    return _from_kinds(list(pattern), config, "hybrid_override_pattern") if isinstance(pattern, str) else None


def _layer_lists(config: HfConfig) -> Layers | None:
    """Transformers' `layer_types`; Nemotron-H's and Jamba's `layers_block_type`."""
    for field in ("layer_types", "layers_block_type", "layer_block_types"):
        kinds = config.optional_list(field)
        if kinds is not None:
            return _from_kinds(kinds, config, field)
    return None


def _kimi_linear(config: HfConfig) -> Layers | None:
    """Kimi Linear: `linear_attn_config` lists the full and the linear layers, counting from 1."""
    table = config.nested("linear_attn_config")
    if table is None:
        return None
    full, linear = table.optional_list("full_attn_layers"), table.optional_list("kda_layers")
    if full is None or linear is None:
        raise CannotTellError("linear_attn_config lists no full_attn_layers or no kda_layers")
    return Layers(n_full=len(full), n_state=len(linear))


def _full_attention_interval(config: HfConfig) -> Layers | None:
    """Qwen3-Next: layers n, 2n, 3n, ... are full, the others linear."""
    interval = config.optional_count("full_attention_interval")
    if interval is None:
        return None
    n_layers = _n_layers(config)
    return Layers(n_full=n_layers // interval, n_state=n_layers - n_layers // interval)


def _attn_layer_period(config: HfConfig) -> Layers | None:
    """Jamba: layers offset, offset + period, ... are attention, the others Mamba."""
    period = config.optional_count("attn_layer_period")
    if period is None:
        return None
    n_layers, offset = _n_layers(config), config.index("attn_layer_offset")
    n_full = len(range(offset, n_layers, period))
    return Layers(n_full=n_full, n_state=n_layers - n_full)


def _attn_layer_indices(config: HfConfig) -> Layers | None:
    """Bamba: the indices of the attention layers."""
    indices = config.optional_list("attn_layer_indices")
    if indices is None:
        return None
    return Layers(n_full=len(indices), n_state=_n_layers(config) - len(indices))


def _parallel_hybrid(config: HfConfig) -> Layers | None:
    """Falcon-H1: every layer runs attention and Mamba side by side."""
    if config.model_type != "falcon_h1":
        return None
    n_layers = _n_layers(config)
    return Layers(n_full=n_layers, n_state=n_layers)


def _sliding_window_pattern(config: HfConfig) -> Layers | None:
    """Gemma 2 and 3, Command R7B: every n-th layer is full, the others slide."""
    default = _PATTERN_DEFAULT.get(config.model_type)
    if default is None:
        return None
    every = config.optional_count("sliding_window_pattern") or default
    n_layers = _n_layers(config)
    n_full = n_layers // every
    return Layers(n_full=n_full, n_window=n_layers - n_full, window_tokens=config.count("sliding_window"))


def _uniform_window(config: HfConfig) -> Layers | None:
    """Mistral, Phi-3: all layers slide. Qwen: those from `max_window_layers` on, if switched on."""
    window = config.optional_count("sliding_window")
    n_full = 0
    if config.model_type in _QWEN_SLIDE:
        if not config.get("use_sliding_window"):
            return None
        n_full = min(config.index("max_window_layers"), _n_layers(config))
    elif config.model_type not in _ALL_SLIDE:
        return None
    n_window = _n_layers(config) - n_full
    if window is None or n_window == 0:
        return None
    return Layers(n_full=n_full, n_window=n_window, window_tokens=window)


_READERS: tuple[Callable[[HfConfig], Layers | None], ...] = (
    _hybrid_override_pattern,
    _layer_lists,
    _kimi_linear,
    _full_attention_interval,
    _attn_layer_period,
    _attn_layer_indices,
    _parallel_hybrid,
    _sliding_window_pattern,
    _uniform_window,
)
