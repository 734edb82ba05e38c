"""What a simulated replica is made of: its cache, its speed, its host tier and links, from tokens or from a model and devices.

Everything here is an estimate that a reader may dispute, so each says what it assumes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agentic_serving.capacity.accelerator import find_accelerator
from agentic_serving.capacity.pool import Parallelism, Unknown, kv_capacity_tokens, lookup_profile
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.profiles import derive
from agentic_serving.fleet.tiers import Link, MemoryTier, Tier, TierConfig
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation.fleets import Fleet, PrefillPool

__all__ = ["HOST_BYTES_PER_S", "TRANSFER_BYTES_PER_S", "Equipment", "Hardware", "HostTier", "equipment"]

#: Between host memory and the accelerator, each way. An assumption: PCIe 4 x16 is 31.5 GB/s raw, and copies of KV
#: blocks reach about 25; newer hosts are faster.
HOST_BYTES_PER_S = 25e9
#: From prefill replicas into one decode replica. An assumption: one 200 Gbit/s port.
TRANSFER_BYTES_PER_S = 25e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A model on `tensor` devices."""

    model: str
    accelerator: str
    tensor: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTier:
    """Makes the tier in host memory of one replica: the engine's own offload, which writes prompts as it computes."""

    capacity_blocks: int
    block_bytes: int
    bytes_per_s: float = HOST_BYTES_PER_S

    def __call__(self) -> Sequence[Tier]:
        config = TierConfig(
            source="host",
            capacity_blocks=self.capacity_blocks,
            block_bytes=self.block_bytes,
            stores_on="computed",
        )
        return (MemoryTier(config, read=Link(self.bytes_per_s), write=Link(self.bytes_per_s)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """A replica.

    Attributes:
        block_bytes: of one block's K and V; None where the model is not known.
        assumptions: sentences for the reader of a result.
    """

    limits: Limits
    profile: StepProfile
    hardware: Hardware | None
    block_bytes: int | None
    assumptions: tuple[str, ...]

    def fleet(self, n_replicas: int, *, prefill: int = 0, host_bytes: int = 0) -> Fleet:
        """So many of it, each with so much host memory for KV cache; and others that only prefill for them.

        Raises:
            InvalidInput: host memory or prefill apart without a known model, or less memory than one block.
        """
        plain = Fleet(n_replicas=n_replicas, limits=self.limits, profile=self.profile)
        if not host_bytes and not prefill:
            return plain
        if self.block_bytes is None:
            raise InvalidInput(
                "host_memory" if host_bytes else "prefill", "needs a model, whose KV bytes per token size it"
            )
        tiers = self._tiers(host_bytes, self.block_bytes)
        if not prefill:
            return replace(plain, tiers=tiers)
        pool = PrefillPool(
            n_replicas=prefill,
            kv_token_bytes=self.block_bytes // self.limits.block_size,
            bytes_per_s=TRANSFER_BYTES_PER_S,
            tiers=tiers,
        )
        return replace(plain, tiers=tiers, prefill=pool)

    @staticmethod
    def _tiers(host_bytes: int, block_bytes: int) -> Callable[[], Sequence[Tier]]:
        if not host_bytes:
            return tuple
        if host_bytes < block_bytes:
            raise InvalidInput("host_memory", f"{host_bytes} bytes hold no block, which has {block_bytes}")
        return HostTier(capacity_blocks=host_bytes // block_bytes, block_bytes=block_bytes)


def equipment(
    limits: Limits,
    *,
    hardware: Hardware | None = None,
    cache_tokens: int | None = None,
    profile: StepProfile | None = None,
) -> Equipment:
    """A replica with the settings of `limits`, whose number of blocks follows from the cache.

    Args:
        cache_tokens: what one replica's cache holds; else what the hardware leaves.
        profile: how fast it is; else derived from the hardware.

    Raises:
        InvalidInput: neither hardware nor tokens and profile, or the tables do not say enough.
    """
    model = None if hardware is None else _model(hardware)
    if profile is None:
        if hardware is None or model is None:
            raise InvalidInput("profile", "is needed where model and accelerator are not given")
        accelerator = find_accelerator(hardware.accelerator, field="accelerator")
        profile = derive(model, accelerator, tensor=hardware.tensor)
    tokens, told = _cache(hardware, model, cache_tokens)
    size = limits.block_size
    return Equipment(
        limits=replace(limits, n_blocks=max(2, tokens // size + 1)),  # one is the engine's null block
        profile=profile,
        hardware=hardware,
        block_bytes=None if model is None or hardware is None else _block_bytes(model, hardware, size),
        assumptions=(told, _speed(profile)),
    )


def _model(hardware: Hardware) -> ModelProfile:
    found = lookup_profile(hardware.model)
    if isinstance(found, Unknown):
        raise InvalidInput(
            "model", f"{hardware.model} is not in templates/models; give a cache size and a profile"
        )
    return found


def _cache(
    hardware: Hardware | None, model: ModelProfile | None, cache_tokens: int | None
) -> tuple[int, str]:
    if cache_tokens is not None:
        return cache_tokens, f"KV cache: {cache_tokens:,} tokens per replica, as given."
    if hardware is None or model is None:
        raise InvalidInput("cache_tokens", "is needed where model and accelerator are not given")
    accelerator = find_accelerator(hardware.accelerator, field="accelerator")
    tokens = kv_capacity_tokens(model, accelerator, Parallelism(tensor=hardware.tensor))
    if isinstance(tokens, Unknown):
        raise InvalidInput("accelerator", tokens.reason)
    if not tokens:
        raise InvalidInput(
            "tensor",
            f"the weights of {model.name} leave no KV cache on {hardware.tensor} x {accelerator.name}: use more devices",
        )
    told = (
        f"KV cache: {tokens:,} tokens per replica of {model.name} on {hardware.tensor} x {accelerator.name}"
    )
    bound = "; an upper bound, since windows and states of fixed size also need room"
    exact = not (model.window_bytes_per_token or model.state_bytes_per_sequence)
    return tokens, f"{told}, at the engine's defaults{'' if exact else bound}."


def _block_bytes(model: ModelProfile, hardware: Hardware, block_size: int) -> int:
    return model.all_layers_bytes_per_token * model.copies(hardware.tensor) * block_size


def _speed(profile: StepProfile) -> str:
    told = f"Speed: profile {profile.name} ({profile.source})"
    if profile.source.startswith("roofline"):
        return f"{told}: derived, right within a factor of two; fit one on the engine where seconds matter."
    return f"{told}."
