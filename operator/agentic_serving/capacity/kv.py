"""KV-cache footprint: the bytes that a token, a sequence and its copies hold.

Pure arithmetic: no clock, no I/O, no Kubernetes type. Units live in the names (`_bytes`, `_tokens`);
`n_` is a count.

Sources: Kwon et al. 2023, PagedAttention (arXiv:2309.06180), section 3, for K and V; DeepSeek-V2
(arXiv:2405.04434), section 2.1, for the latent cache; vLLM `vllm/config/model.py`, `get_num_kv_heads`, for the
split over tensor-parallel ranks.
Not modelled: prefix sharing, the rounding of each sequence to whole pages, block tables.
"""

from agentic_serving.errors import InvalidInput

__all__ = ["copies", "grouped_token_bytes", "latent_token_bytes", "sequence_bytes"]


def grouped_token_bytes(*, n_layers: int, n_kv_heads: int, head_dim: int, element_bytes: int) -> int:
    """Bytes of K and V that one token adds over `n_layers` layers (MHA, GQA and MQA alike)."""
    return 2 * n_layers * n_kv_heads * head_dim * element_bytes


def latent_token_bytes(*, n_layers: int, kv_lora_rank: int, rope_head_dim: int, element_bytes: int) -> int:
    """Bytes of the joint latent and the decoupled rotary key that one token adds (MLA): one entry, not two."""
    return n_layers * (kv_lora_rank + rope_head_dim) * element_bytes


def copies(n_kv_heads: int | None, tensor: int) -> int:
    """How often a replica holds each byte of the cache when heads are split over `tensor` ranks.

    With fewer heads than ranks each rank holds one head, so heads are repeated. A latent cache is one head.
    An unknown number of heads counts as split evenly.

    Raises:
        InvalidInput: `tensor` is below 1.
    """
    if tensor < 1:
        raise InvalidInput("tensor", "must be at least 1")
    if n_kv_heads is None:
        return 1
    return -(-tensor // n_kv_heads)  # ceiling division


def sequence_bytes(
    tokens: int,
    *,
    token_bytes: int,
    window_token_bytes: int = 0,
    window_tokens: int = 0,
    state_bytes: int = 0,
) -> int:
    """Bytes that one sequence of `tokens` tokens holds.

    Args:
        tokens: length of the sequence.
        token_bytes: per token, layers that keep the whole context.
        window_token_bytes: per token, layers that keep the last `window_tokens` only.
        state_bytes: per sequence, layers that keep a state of fixed size.

    Raises:
        InvalidInput: `tokens` is negative.
    """
    if tokens < 0:
        raise InvalidInput("tokens", "must not be negative")
    if tokens == 0:
        return 0
    return tokens * token_bytes + min(tokens, window_tokens) * window_token_bytes + state_bytes
