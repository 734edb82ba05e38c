"""Bytes of the fixed-size state that Mamba, linear-attention and convolution layers keep per sequence.

Source: vLLM `vllm/model_executor/layers/mamba/mamba_utils.py`, `MambaStateShapeCalculator` and
`MambaStateDtypeCalculator`, with one tensor-parallel rank and no speculative tokens.
Not modelled: the checkpoints of states that prefix caching keeps besides (one per retained block boundary).
"""

from agentic_serving.capacity.hfconfig import CannotTellError, HfConfig

__all__ = ["state_layer_bytes"]

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: The convolution state has the model's own type: bf16 or fp16.
_CONV_ELEMENT_BYTES = 2


def state_layer_bytes(config: HfConfig) -> int:
    """Bytes that one state layer keeps per sequence.

    Raises:
        CannotTellError: none of the known layouts can be read from the configuration.
    """
    if "linear_attn_config" in config:
        return _kimi_delta(config)
    if "linear_num_value_heads" in config:
        return _gated_delta_net(config)
    if "mamba_num_heads" in config or "mamba_n_heads" in config:
        return _mamba2(config)
    if "mamba_d_state" in config:
        return _mamba1(config)
    if "conv_L_cache" in config:
        return (config.count("conv_L_cache") - 1) * config.count("hidden_size") * _CONV_ELEMENT_BYTES
    raise CannotTellError("the size of its state layers: no mamba_*, linear_* or conv_L_cache field is set")


def _recurrent_element_bytes(config: HfConfig) -> int:
    """Type of the recurrent state: what the configuration says, else the model's own."""
    dtype = config.get("mamba_ssm_cache_dtype") or config.get("mamba_ssm_dtype")
    return _DTYPE_BYTES.get(dtype, 2) if isinstance(dtype, str) else 2


def _gated_delta_net(config: HfConfig) -> int:
    """Qwen3-Next and Qwen3.5."""
    key = config.count("linear_num_key_heads") * config.count("linear_key_head_dim")
    value = config.count("linear_num_value_heads") * config.count("linear_value_head_dim")
    conv = (2 * key + value) * (config.count("linear_conv_kernel_dim") - 1)
    recurrent = value * config.count("linear_key_head_dim")
    return conv * _CONV_ELEMENT_BYTES + recurrent * _recurrent_element_bytes(config)


def _kimi_delta(config: HfConfig) -> int:
    """Kimi Linear: q, k and v are convolved; the recurrent state is always fp32."""
    table = config.nested("linear_attn_config")
    if table is None:
        raise CannotTellError("linear_attn_config is not a table")
    n_heads, head_dim = table.count("num_heads"), table.count("head_dim")
    conv = 3 * n_heads * head_dim * (table.count("short_conv_kernel_size") - 1)
    return conv * _CONV_ELEMENT_BYTES + n_heads * head_dim * head_dim * 4


def _mamba2(config: HfConfig) -> int:
    """Nemotron-H, Bamba, Granite 4, Falcon-H1; the two ways these families name the same sizes."""
    n_heads = config.count("mamba_num_heads", "mamba_n_heads")
    head_dim = config.count("mamba_head_dim", "mamba_d_head")
    n_groups = config.count("n_groups", "mamba_n_groups")
    state = config.count("ssm_state_size", "mamba_d_state")
    kernel = config.count("conv_kernel", "mamba_d_conv")
    conv = (n_heads * head_dim + 2 * n_groups * state) * (kernel - 1)
    return conv * _CONV_ELEMENT_BYTES + n_heads * head_dim * state * _recurrent_element_bytes(config)


def _mamba1(config: HfConfig) -> int:
    """Jamba."""
    inner = config.count("mamba_expand") * config.count("hidden_size")
    conv = inner * (config.count("mamba_d_conv") - 1)
    return conv * _CONV_ELEMENT_BYTES + inner * config.count("mamba_d_state") * _recurrent_element_bytes(
        config
    )
