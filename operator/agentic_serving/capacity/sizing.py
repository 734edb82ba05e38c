"""What fits: the KV pool of a replica, the tokens it holds, and the entries of a tier.

Pure arithmetic on a profile, an accelerator and a parallelism. What is not known gives a reason, not a number.

Not modelled: activations by batch size, CUDA graphs by size, quantised caches with scales, adapters,
speculative decoding's draft model; one reserve per device stands for them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from agentic_serving.capacity.accelerator import Accelerator
from agentic_serving.capacity.models import find_model
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.errors import InvalidInput

__all__ = [
    "DEFAULT_GPU_MEMORY_UTILIZATION",
    "DEFAULT_RESERVE_BYTES",
    "Fit",
    "Memory",
    "Parallelism",
    "Unknown",
    "fits",
    "kv_capacity_tokens",
    "kv_pool_bytes",
    "lookup_profile",
    "tier_blocks",
    "tier_tokens",
]

#: vLLM 0.33, `--gpu-memory-utilization`.
DEFAULT_GPU_MEMORY_UTILIZATION = 0.92
#: Per device, for activations, CUDA graphs and collectives. Source: NVIDIA AIConfigurator 095f58a,
#: `systems/h100_sxm.yaml`, `misc.other_mem`: "3.5GB for safer deployment".
DEFAULT_RESERVE_BYTES = 3_758_096_384

_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """How one replica spreads over devices."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: bool = False

    def __post_init__(self) -> None:
        for name in ("tensor", "pipeline", "data"):
            if getattr(self, name) < 1:
                raise InvalidInput(name, "must be at least 1")

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """How the engine uses a device's memory."""

    utilization: float = DEFAULT_GPU_MEMORY_UTILIZATION
    reserve_bytes_per_device: int = DEFAULT_RESERVE_BYTES

    def __post_init__(self) -> None:
        if not 0 < self.utilization <= 1:
            raise InvalidInput("utilization", "must be above 0 and at most 1")
        if self.reserve_bytes_per_device < 0:
            raise InvalidInput("reserve_bytes_per_device", "must not be negative")


@dataclass(frozen=True, slots=True)
class Unknown:
    """Sizing is off, and why: one sentence for a condition."""

    reason: str


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model runs on its devices, with the numbers and what to change."""

    state: Literal["Fits", "DoesNotFit", "Unknown"]
    message: str

    @property
    def ok(self) -> bool:
        """False only where it surely does not fit: not knowing is no reason to refuse."""
        return self.state != "DoesNotFit"


def lookup_profile(
    name: str, override: ModelProfile | None = None, *, kv_element_bytes: int = 2
) -> ModelProfile | Unknown:
    """What the user gave, else what the table knows of the Hugging Face repository `name`."""
    profile = override or find_model(name, kv_element_bytes=kv_element_bytes)
    if profile is not None:
        return profile
    return Unknown(f"sizing off: model {name} is not in templates/models and spec.model.profile is not set")


def kv_pool_bytes(
    profile: ModelProfile | Unknown,
    accelerator: Accelerator,
    parallelism: Parallelism,
    memory: Memory = Memory(),
) -> int | Unknown:
    """Bytes left for the KV cache over all devices of one replica; 0 where the weights leave none."""
    if isinstance(profile, Unknown):
        return profile
    if accelerator.kv_cache_bytes is not None:
        return accelerator.kv_cache_bytes * parallelism.devices
    usable = _usable_bytes(accelerator, memory)
    if usable is None:
        return Unknown(f"sizing off: the memory of accelerator {accelerator.name} is not known")
    if profile.weight_bytes is None:
        return Unknown(f"sizing off: the weight bytes of model {profile.name} are not known; {_SET_WEIGHTS}")
    low, high = _weights_per_device(profile.weight_bytes, profile, parallelism)
    if low != high:
        return Unknown(
            f"sizing off: how the weights of {profile.name} spread over {parallelism.data} data-parallel ranks "
            "depends on its experts, which is not modelled"
        )
    return max(0, usable - high) * parallelism.devices


def kv_capacity_tokens(
    profile: ModelProfile | Unknown,
    accelerator: Accelerator,
    parallelism: Parallelism,
    memory: Memory = Memory(),
) -> int | Unknown:
    """Tokens that the KV pool of one replica holds; an upper bound where sequences also hold windows or states."""
    pool = kv_pool_bytes(profile, accelerator, parallelism, memory)
    if isinstance(pool, Unknown) or isinstance(profile, Unknown):
        return pool
    token_bytes = profile.kv_bytes_per_token or profile.window_bytes_per_token
    return pool // (token_bytes * profile.copies(parallelism.tensor))


def fits(
    profile: ModelProfile | Unknown,
    accelerator: Accelerator,
    parallelism: Parallelism,
    *,
    context_tokens: int | None = None,
    memory: Memory = Memory(),
) -> Fit:
    """Whether the weights fit, and one sequence of `context_tokens` (else the model's longest) beside them.

    vLLM refuses to start where that sequence does not fit.
    """
    if isinstance(profile, Unknown):
        return Fit("Unknown", profile.reason)
    split = _split_error(profile, parallelism.tensor)
    if split:
        return Fit("DoesNotFit", split)
    context_tokens = context_tokens or profile.max_context_tokens
    usable = _usable_bytes(accelerator, memory)
    if accelerator.kv_cache_bytes is None and usable is not None and profile.weight_bytes is not None:
        low, high = _weights_per_device(profile.weight_bytes, profile, parallelism)
        if low > usable:
            return _too_heavy(profile, accelerator, parallelism, memory)
        if high != low and high > usable:
            return Fit(
                "Unknown",
                f"{profile.name} needs between {_gib(low)} and {_gib(high)} of weights on each device, of which "
                f"{_gib(usable)} are usable: it depends on how its experts spread, which is not modelled",
            )
    pool = kv_pool_bytes(profile, accelerator, parallelism, memory)
    if isinstance(pool, Unknown):
        return Fit("Unknown", pool.reason)
    return _holds_one_sequence(profile, accelerator, parallelism, pool, context_tokens, memory)


def tier_tokens(capacity_bytes: int, profile: ModelProfile, *, tensor: int = 1) -> int:
    """Tokens that a cache tier of `capacity_bytes` holds.

    A tier keeps what every layer computed, windows included; ranks that repeat heads each store their own copy.

    Raises:
        InvalidInput: the capacity is negative.
    """
    if capacity_bytes < 0:
        raise InvalidInput("capacity_bytes", "must not be negative")
    return capacity_bytes // (profile.all_layers_bytes_per_token * profile.copies(tensor))


def tier_blocks(capacity_bytes: int, profile: ModelProfile, block_tokens: int, *, tensor: int = 1) -> int:
    """Whole blocks of `block_tokens` tokens in a tier: the picker's `lruCapacityPerServer`.

    Raises:
        InvalidInput: the capacity is negative or a block has no token.
    """
    if block_tokens < 1:
        raise InvalidInput("block_tokens", "must be at least 1")
    return tier_tokens(capacity_bytes, profile, tensor=tensor) // block_tokens


_SET_WEIGHTS = "set spec.model.profile with the size of its safetensors files"


def _usable_bytes(accelerator: Accelerator, memory: Memory) -> int | None:
    """Bytes of one device for weights and KV cache."""
    if accelerator.memory_bytes is None:
        return None
    return int(accelerator.memory_bytes * memory.utilization) - memory.reserve_bytes_per_device


def _weights_per_device(
    weight_bytes: int, profile: ModelProfile, parallelism: Parallelism
) -> tuple[int, int]:
    """(least, most) bytes of weights on one device.

    Data-parallel ranks repeat dense weights but share experts out among them (vLLM, `docs/serving/
    data_parallel_deployment.md`); how much of a model its experts are is not known here.
    """
    most = -(-weight_bytes // (parallelism.tensor * parallelism.pipeline))
    if parallelism.data == 1 or profile.mixture_of_experts is False:
        return most, most
    return -(-weight_bytes // parallelism.devices), most


def _split_error(profile: ModelProfile, tensor: int) -> str | None:
    """vLLM refuses a tensor split that does not divide the attention heads (`vllm/config/model.py`)."""
    heads = profile.n_attention_heads
    if heads is None or heads % tensor == 0:
        return None
    return f"tensor {tensor} does not divide the {heads} attention heads of {profile.name}: use a divisor of {heads}"


def _holds_one_sequence(
    profile: ModelProfile,
    accelerator: Accelerator,
    parallelism: Parallelism,
    pool: int,
    context_tokens: int | None,
    memory: Memory,
) -> Fit:
    rank_pool = pool // parallelism.data
    if context_tokens is None:
        return Fit(
            "Fits", f"{_gib(pool)} for the KV cache; the longest context of {profile.name} is not known"
        )
    needed = profile.sequence_bytes(context_tokens) * profile.copies(parallelism.tensor)
    if needed <= rank_pool:
        return Fit(
            "Fits",
            f"{_gib(pool)} for the KV cache, {_gib(needed)} for one context of {context_tokens} tokens",
        )
    longest = _longest_context(profile, parallelism.tensor, rank_pool)
    larger = _smallest_tensor(profile, accelerator, parallelism, context_tokens, memory)
    return Fit(
        "DoesNotFit",
        f"one context of {context_tokens} tokens of {profile.name} needs {_gib(needed)} of KV cache, but "
        f"{_where(accelerator, parallelism, memory)} leave {_gib(rank_pool)} beside the weights: set "
        f"spec.model.contextLength to at most {longest}" + (f", or tensor to {larger}" if larger else ""),
    )


def _too_heavy(
    profile: ModelProfile, accelerator: Accelerator, parallelism: Parallelism, memory: Memory
) -> Fit:
    larger = _smallest_tensor(profile, accelerator, parallelism, None, memory)
    usable = (_usable_bytes(accelerator, memory) or 0) * parallelism.devices
    if larger:
        change = f"set tensor to {larger}"
    else:
        node = accelerator.devices_per_node
        change = f"it fits on no {node} devices of one node: " if node else ""
        change += "use a smaller or quantised model, or an accelerator with more memory"
    return Fit(
        "DoesNotFit",
        f"{profile.name} needs {_gib(profile.weight_bytes or 0)} of weights, but "
        f"{_where(accelerator, parallelism, memory)} offer {_gib(max(0, usable))}: {change}",
    )


def _smallest_tensor(
    profile: ModelProfile,
    accelerator: Accelerator,
    parallelism: Parallelism,
    context_tokens: int | None,
    memory: Memory,
) -> int | None:
    """The smallest larger power of two of tensor-parallel devices on one node with which it fits."""
    for tensor in _powers_of_two(accelerator.devices_per_node or 0):
        wider = replace(parallelism, tensor=tensor)
        if tensor <= parallelism.tensor or wider.devices > (accelerator.devices_per_node or 0):
            continue
        if _split_error(profile, tensor):
            continue
        pool = kv_pool_bytes(profile, accelerator, wider, memory)
        needed = profile.sequence_bytes(context_tokens or 1) * profile.copies(tensor)
        if not isinstance(pool, Unknown) and pool // wider.data >= needed:
            return tensor
    return None


def _powers_of_two(limit: int) -> Iterable[int]:
    return (1 << shift for shift in range(limit.bit_length()))


def _longest_context(profile: ModelProfile, tensor: int, pool: int) -> int:
    """The longest sequence whose bytes fit in `pool`; 0 where not even one token does."""
    low, high = 0, max(1, pool)
    copies = profile.copies(tensor)
    while low < high:
        middle = (low + high + 1) // 2
        if profile.sequence_bytes(middle) * copies <= pool:
            low = middle
        else:
            high = middle - 1
    return low


def _where(accelerator: Accelerator, parallelism: Parallelism, memory: Memory) -> str:
    if accelerator.kv_cache_bytes is not None or accelerator.memory_bytes is None:
        return f"the settings of accelerator {accelerator.name}"
    return (
        f"{parallelism.devices} x {accelerator.name} ({_gib(accelerator.memory_bytes)} x {memory.utilization} each, "
        f"less {_gib(memory.reserve_bytes_per_device)} for activations and graphs)"
    )


def _gib(value: int) -> str:
    return f"{value / _GIB:.1f} GiB"
