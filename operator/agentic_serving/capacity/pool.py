"""The KV pool of a replica, the tokens it holds, and the entries of a cache tier.

Pure arithmetic on a profile, an accelerator and a parallelism. What is not known gives a reason, not a number.

Not modelled: activations by batch size, CUDA graphs by size, quantised caches with scales, adapters, a
speculative decoder's draft model (one reserve per device stands for them); the padding of pages in hybrid models.
"""

from dataclasses import dataclass

from agentic_serving.capacity.accelerator import Accelerator
from agentic_serving.capacity.models import find_model
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.errors import InvalidInput

__all__ = [
    "DEFAULT_GPU_MEMORY_UTILIZATION",
    "DEFAULT_MEMORY",
    "DEFAULT_RESERVE_BYTES",
    "Memory",
    "Parallelism",
    "Unknown",
    "kv_capacity_tokens",
    "kv_pool_bytes",
    "lookup_profile",
    "tier_blocks",
    "tier_tokens",
    "usable_bytes",
    "weights_per_device",
]

#: vLLM 0.33, `--gpu-memory-utilization`.
DEFAULT_GPU_MEMORY_UTILIZATION = 0.92
#: Per device, for activations, CUDA graphs and collectives. Source: NVIDIA AIConfigurator 095f58a,
#: `systems/h100_sxm.yaml`, `misc.other_mem`: "3.5GB for safer deployment".
DEFAULT_RESERVE_BYTES = 3_758_096_384


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


#: What the engine does unless it is told otherwise.
DEFAULT_MEMORY = Memory()


@dataclass(frozen=True, slots=True)
class Unknown:
    """Sizing is off, and why: one sentence for a condition."""

    reason: str


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
    memory: Memory = DEFAULT_MEMORY,
) -> int | Unknown:
    """Bytes left for the KV cache over all devices of one replica; 0 where the weights leave none."""
    if isinstance(profile, Unknown):
        return profile
    if accelerator.kv_cache_bytes is not None:
        return accelerator.kv_cache_bytes * parallelism.devices
    usable = usable_bytes(accelerator, memory)
    if usable is None:
        return Unknown(f"sizing off: the memory of accelerator {accelerator.name} is not known")
    if profile.weight_bytes is None:
        return Unknown(
            f"sizing off: the weight bytes of model {profile.name} are not known; "
            "set spec.model.profile with the size of its safetensors files"
        )
    low, high = weights_per_device(profile.weight_bytes, profile, parallelism)
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
    memory: Memory = DEFAULT_MEMORY,
) -> int | Unknown:
    """Tokens that one replica's KV pool holds; an upper bound where sequences also hold windows or states."""
    pool = kv_pool_bytes(profile, accelerator, parallelism, memory)
    if isinstance(pool, Unknown) or isinstance(profile, Unknown):
        return pool
    token_bytes = profile.kv_bytes_per_token or profile.window_bytes_per_token
    return pool // (token_bytes * profile.copies(parallelism.tensor))


def tier_tokens(capacity_bytes: int, profile: ModelProfile, *, tensor: int = 1) -> int:
    """Tokens that a cache tier of `capacity_bytes` holds.

    A tier keeps what every layer computed, windows included.

    Args:
        capacity_bytes: of the whole tier of one replica.
        tensor: ranks that each store their own copy of repeated heads; 1 where the tier stores one copy.

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


def usable_bytes(accelerator: Accelerator, memory: Memory) -> int | None:
    """Bytes of one device for weights and KV cache; None where its memory is not known."""
    if accelerator.memory_bytes is None:
        return None
    return int(accelerator.memory_bytes * memory.utilization) - memory.reserve_bytes_per_device


def weights_per_device(weight_bytes: int, profile: ModelProfile, parallelism: Parallelism) -> tuple[int, int]:
    """(least, most) bytes of weights on one device.

    Data-parallel ranks repeat dense weights and share experts out among them (docs.vllm.ai, "Data Parallel
    Deployment"); how much of a model its experts are is not known here, so the two differ for them.
    """
    most = -(-weight_bytes // (parallelism.tensor * parallelism.pipeline))
    if parallelism.data == 1 or profile.mixture_of_experts is False:
        return most, most
    return -(-weight_bytes // parallelism.devices), most
