"""Whether a model runs on its devices, with the numbers and what to change; and the door to `pool`.

The same refusals as the engine's, before a pod is scheduled: vLLM does not start where the weights or one
sequence of the longest context do not fit, or where heads cannot be split.
"""

from dataclasses import dataclass, replace
from typing import Literal

from agentic_serving.api.quantities import parse_bytes
from agentic_serving.capacity.accelerator import Accelerator
from agentic_serving.capacity.pool import (
    DEFAULT_GPU_MEMORY_UTILIZATION,
    DEFAULT_MEMORY,
    DEFAULT_RESERVE_BYTES,
    Memory,
    Parallelism,
    Unknown,
    kv_capacity_tokens,
    kv_pool_bytes,
    lookup_profile,
    tier_blocks,
    tier_tokens,
    usable_bytes,
    weights_per_device,
)
from agentic_serving.capacity.profile import ModelProfile

__all__ = [
    "DEFAULT_GPU_MEMORY_UTILIZATION",
    "DEFAULT_MEMORY",
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

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model runs on its devices."""

    state: Literal["Fits", "DoesNotFit", "Unknown"]
    message: str

    @property
    def ok(self) -> bool:
        """False only where it surely does not fit: not knowing is no reason to refuse."""
        return self.state != "DoesNotFit"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What `fits` is asked about; its helpers pass it on."""

    profile: ModelProfile
    accelerator: Accelerator
    parallelism: Parallelism
    memory: Memory
    context_tokens: int | None

    @property
    def where(self) -> str:
        memory_bytes = self.accelerator.memory_bytes
        if memory_bytes is None:
            return f"the settings of accelerator {self.accelerator.name}"
        return (
            f"{self.parallelism.devices} x {self.accelerator.name} ({_gib(memory_bytes)} x "
            f"{self.memory.utilization} each, less {_gib(self.memory.reserve_bytes_per_device)} for activations "
            "and graphs)"
        )


def fits(
    profile: ModelProfile | Unknown,
    accelerator: Accelerator,
    parallelism: Parallelism,
    *,
    context_tokens: int | None = None,
    memory: Memory = DEFAULT_MEMORY,
) -> Fit:
    """Whether the weights fit, and one sequence of `context_tokens` (else the model's longest) beside them.

    The reserve for activations and graphs is an estimate: what would fit without it is not refused.
    """
    if isinstance(profile, Unknown):
        return Fit("Unknown", profile.reason)
    case = _Case(
        profile=profile,
        accelerator=accelerator,
        parallelism=parallelism,
        memory=memory,
        context_tokens=context_tokens or profile.max_context_tokens,
    )
    found = _check(case)
    without_reserve = replace(case, memory=replace(memory, reserve_bytes_per_device=0))
    if found.state == "DoesNotFit" and _check(without_reserve).state != "DoesNotFit":
        return Fit("Unknown", f"it is not sure that this fits: {found.message}")
    return found


def _check(case: _Case) -> Fit:
    for check in (
        _devices_are_on_one_node,
        _heads_split,
        _weights_fit,
        _host_memory_fits,
        _one_sequence_fits,
    ):
        found = check(case)
        if found is not None:
            return found
    return Fit("Fits", f"{case.profile.name} fits on {case.where}")


def _devices_are_on_one_node(case: _Case) -> Fit | None:
    limit, wanted = case.accelerator.devices_per_node, case.parallelism.devices
    if limit is None or wanted <= limit:
        return None
    return Fit(
        "DoesNotFit",
        f"tensor x pipeline x data is {wanted} devices, but a node with {case.accelerator.name} has {limit}: "
        f"use at most {limit}",
    )


def _heads_split(case: _Case) -> Fit | None:
    """vLLM refuses a tensor split that does not divide the attention heads (`vllm/config/model.py`)."""
    heads, tensor = case.profile.n_attention_heads, case.parallelism.tensor
    if heads is None or heads % tensor == 0:
        return None
    return Fit(
        "DoesNotFit",
        f"tensor {tensor} does not divide the {heads} attention heads of {case.profile.name}: "
        f"use a divisor of {heads}",
    )


def _weights_fit(case: _Case) -> Fit | None:
    usable, weights = usable_bytes(case.accelerator, case.memory), case.profile.weight_bytes
    if usable is None or weights is None:
        return None
    low, high = weights_per_device(weights, case.profile, case.parallelism)
    if low > usable:
        return Fit(
            "DoesNotFit",
            f"{case.profile.name} has {_gib(weights)} of weights, {_gib(low)} on each device, but {case.where} "
            f"leave {_gib(max(0, usable))} on each: {_more_devices(case)}",
        )
    if low < high and high > usable:
        return Fit(
            "Unknown",
            f"{case.profile.name} needs {_gib(low)} to {_gib(high)} of weights on each device, of which "
            f"{_gib(usable)} are usable: it depends on how its experts spread, which is not modelled",
        )
    return None


def _host_memory_fits(case: _Case) -> Fit | None:
    """Without devices, weights and cache are in the pod's own memory."""
    weights, cache, request = (
        case.profile.weight_bytes,
        case.accelerator.kv_cache_bytes,
        case.accelerator.memory_request,
    )
    if weights is None or cache is None or request is None:
        return None
    needed = weights + cache * case.parallelism.devices
    if needed <= parse_bytes(request, "spec.accelerator.overrides.hostMemory"):
        return None
    return Fit(
        "DoesNotFit",
        f"{case.profile.name} needs {_gib(needed)} of memory ({_gib(weights)} of weights, the rest KV cache), but the "
        f"pod asks for {request}: set spec.accelerator.overrides.hostMemory to more, or use a smaller model",
    )


def _one_sequence_fits(case: _Case) -> Fit | None:
    pool = kv_pool_bytes(case.profile, case.accelerator, case.parallelism, case.memory)
    if isinstance(pool, Unknown):
        return Fit("Unknown", pool.reason)
    if case.context_tokens is None:
        return None
    rank_pool = pool // case.parallelism.data
    needed = case.profile.sequence_bytes(case.context_tokens, tensor=case.parallelism.tensor)
    if needed <= rank_pool:
        return None
    longest = _longest_context(case.profile, case.parallelism.tensor, rank_pool)
    return Fit(
        "DoesNotFit",
        f"one context of {case.context_tokens} tokens of {case.profile.name} needs {_gib(needed)} of KV cache, but "
        f"{case.where} leave {_gib(rank_pool)} beside the weights: set spec.model.contextLength to at most "
        f"{longest}, or {_more_devices(case)}",
    )


def _more_devices(case: _Case) -> str:
    """What to change: the smallest power of two of tensor-parallel devices on one node with which it fits."""
    tensor = case.parallelism.tensor
    while (tensor := 1 << tensor.bit_length()) <= (case.accelerator.devices_per_node or 0):
        wider = replace(case.parallelism, tensor=tensor)
        if _check(replace(case, parallelism=wider)).state == "Fits":
            return f"set tensor to {tensor}"
    return "use a smaller or quantised model, or an accelerator with more memory"


def _longest_context(profile: ModelProfile, tensor: int, pool: int) -> int:
    """The longest sequence whose bytes fit in `pool`; 0 where not even one token does."""
    low, high = 0, max(1, pool)
    while low < high:
        middle = (low + high + 1) // 2
        if profile.sequence_bytes(middle, tensor=tensor) <= pool:
            low = middle
        else:
            high = middle - 1
    return low


def _gib(value: int) -> str:
    return f"{value / _GIB:.1f} GiB"
