"""What sizing must know of a model: the profile, whether it was read from the table, derived or given by a user."""

from dataclasses import dataclass
from typing import Literal

from agentic_serving.capacity import kv
from agentic_serving.errors import InvalidInput

__all__ = ["Attention", "ModelProfile"]

#: How layers keep the past. Hybrid: some layers keep a state of fixed size (Mamba, linear attention).
#: SlidingWindow: some or all layers keep only the last tokens.
Attention = Literal["MHA", "GQA", "MQA", "MLA", "Hybrid", "SlidingWindow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """Sizes of one model, for the whole model before any split over devices.

    Raises:
        InvalidInput: a size is out of range; the field names it.
    """

    name: str
    attention: Attention | None  # None: not known
    kv_bytes_per_token: int  # all layers that keep the whole context, at kv_element_bytes
    kv_element_bytes: int = 2  # 2 for fp16 and bf16, 1 for fp8
    window_bytes_per_token: int = 0  # all sliding-window layers, per token inside the window
    window_tokens: int | None = None  # None exactly if window_bytes_per_token is 0
    state_bytes_per_sequence: int = 0  # all Mamba and linear-attention layers
    n_kv_heads: int | None = None  # 1 for a latent cache; None: unknown, counts as split evenly
    n_attention_heads: int | None = None
    n_layers: int | None = None
    head_dim: int | None = None
    mixture_of_experts: bool | None = None  # None: unknown
    weight_bytes: int | None = None  # as loaded; None: unknown, so no fit check
    max_context_tokens: int | None = None
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("kv_bytes_per_token", "window_bytes_per_token", "state_bytes_per_sequence"):
            if getattr(self, name) < 0:
                raise InvalidInput(name, "must not be negative")
        for name in ("kv_element_bytes", "window_tokens", "n_kv_heads", "weight_bytes", "max_context_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInput(name, "must be at least 1")
        if (self.window_tokens is None) != (self.window_bytes_per_token == 0):
            raise InvalidInput("window_tokens", "must be set exactly if window_bytes_per_token is not 0")
        if self.all_layers_bytes_per_token == 0:
            raise InvalidInput("kv_bytes_per_token", "must be at least 1 in a model without sliding windows")

    @property
    def all_layers_bytes_per_token(self) -> int:
        """Bytes of K and V that the model computes per token: what a tier stores, and what an engine holds
        that treats sliding windows as full attention (vLLM without its hybrid KV-cache manager)."""
        return self.kv_bytes_per_token + self.window_bytes_per_token

    def sequence_bytes(self, tokens: int, *, tensor: int = 1) -> int:
        """Bytes that one sequence holds over all ranks of a replica; states are always split, never repeated."""
        copies = self.copies(tensor)
        return kv.sequence_bytes(
            tokens,
            token_bytes=self.kv_bytes_per_token * copies,
            window_token_bytes=self.window_bytes_per_token * copies,
            window_tokens=self.window_tokens or 0,
            state_bytes=self.state_bytes_per_sequence,
        )

    def copies(self, tensor: int) -> int:
        """How often a replica holds each token's K and V when heads are split over `tensor` ranks."""
        return kv.copies(1 if self.attention == "MLA" else self.n_kv_heads, tensor)
