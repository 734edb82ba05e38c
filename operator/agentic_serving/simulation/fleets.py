"""What is simulated: replicas, those that prefill apart, and which agents use which of several stacks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.replica import Replica
from agentic_serving.fleet.tiers import BlockLink, Link, Tier
from agentic_serving.fleet.types import Limits

__all__ = ["Fleet", "PrefillPool", "Stacks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillPool:
    """Equal replicas that only prefill, and the way of their KV into those that decode.

    A decode replica asks for the KV when it has room for it, as vLLM's NIXL connector does, and one transfer into it
    follows the other. How many a prefill replica sends at the same time is not limited.

    Attributes:
        kv_token_bytes: of one token, over all layers.
        bytes_per_s: into one decode replica.
        uncached_token_threshold: prompts with fewer uncached tokens are prefilled where they decode; the default is
            that of `uncachedTokenThreshold` in our API.
        limits: None: as of the replicas that decode.
        profile: None: as of the replicas that decode.
    """

    n_replicas: int
    kv_token_bytes: int
    bytes_per_s: float
    latency_s: float = 0.0
    uncached_token_threshold: int = 512
    limits: Limits | None = None
    profile: StepProfile | None = None
    tiers: Callable[[], Sequence[Tier]] = tuple

    def __post_init__(self) -> None:
        for name in ("n_replicas", "kv_token_bytes", "uncached_token_threshold"):
            if getattr(self, name) < 1:
                raise InvalidInput(name, "must be at least 1")
        if self.bytes_per_s <= 0 or self.latency_s < 0:
            raise InvalidInput("bytes_per_s", "must be positive, and latency_s not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Equal replicas.

    Attributes:
        tiers: makes the KV tiers of one replica; a tier that all share is made once, outside.
        prefill: replicas that prefill for them; None: each prefills its own.
    """

    n_replicas: int
    limits: Limits
    profile: StepProfile
    tiers: Callable[[], Sequence[Tier]] = tuple
    prefill: PrefillPool | None = None

    def __post_init__(self) -> None:
        if self.n_replicas < 1:
            raise InvalidInput("n_replicas", "must be at least 1")
        if self.prefill and self.prefill.limits and self.prefill.limits.block_size != self.limits.block_size:
            raise InvalidInput("prefill.limits", "must have the same block size")

    @property
    def tokens(self) -> int:
        """What the caches of all replicas hold, without those that only prefill."""
        return self.n_replicas * self.limits.usable_tokens

    @property
    def prefill_limits(self) -> Limits:
        """Of the replicas that only prefill."""
        return (self.prefill and self.prefill.limits) or self.limits

    def replicas(self) -> list[Replica]:
        return [self.replica() for _ in range(self.n_replicas)]

    def replica(self) -> Replica:
        """A new replica of those that decode."""
        link = None
        if self.prefill is not None:
            way = Link(self.prefill.bytes_per_s, self.prefill.latency_s)
            link = BlockLink(way, self.prefill.kv_token_bytes * self.limits.block_size)
        return Replica(self.limits, self.profile, tiers=self.tiers(), link=link)

    def prefill_replica(self) -> Replica:
        """A new replica of those that only prefill."""
        pool = self.prefill
        if pool is None:
            raise InvalidInput("prefill", "this fleet has none")
        return Replica(self.prefill_limits, pool.profile or self.profile, tiers=pool.tiers())


@dataclass(frozen=True, slots=True)
class Stacks:
    """Further stacks, each with a model, replicas and routers of its own, for some of the agents.

    Attributes:
        fleets: by name; the setup's own fleet is the stack without a name.
        agents: agent (`Session.agent`) → stack; agents that are not in here use the setup's own fleet.
    """

    fleets: Mapping[str, Fleet] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for agent, name in self.agents.items():
            if name not in self.fleets:
                raise InvalidInput(f"stacks.agents.{agent}", f"there is no stack {name!r}")
        if "" in self.fleets:
            raise InvalidInput("stacks.fleets", "a further stack needs a name")
