"""KVTierPolicy: where KV cache goes when it leaves the accelerator's memory."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agentic_serving.api.base import (
    SHORT_NAME,
    ApiModel,
    ApiObject,
    CelRule,
    Conditions,
    Count,
    DnsSubdomain,
    Generation,
    QuantityString,
)
from agentic_serving.api.capability import Capabilities

__all__ = [
    "HostMemory",
    "KVTierPolicy",
    "KVTierPolicySpec",
    "KVTierPolicyStatus",
    "SharedTier",
    "SharedVolume",
]


class HostMemory(ApiModel):
    """KV cache in the memory of the engine pod's node."""

    backend: Literal["Native", "LMCache"] = "Native"
    """`Native`: the engine's own offload. `LMCache`: an LMCache server as native sidecar of each engine pod."""
    capacity_per_replica: QuantityString
    """Memory for each replica, such as `100Gi`; it is added to the pod's memory limit."""


class SharedVolume(ApiModel):
    """A volume that all replicas mount."""

    claim_name: DnsSubdomain
    """A PersistentVolumeClaim in the same namespace with access mode ReadWriteMany."""


class SharedTier(ApiModel):
    """KV cache that all replicas of the stack share."""

    backend: Literal["LMCache"] = "LMCache"
    """`LMCache`: the replicas' LMCache servers with a file-system store behind them, and a coordinator."""
    persistent_volume_claim: SharedVolume
    """Where the shared store keeps its files."""


class KVTierPolicySpec(ApiModel):
    """What the user asks for."""

    host_memory: HostMemory | None = None
    """The tier in host memory."""
    shared: SharedTier | None = None
    """The tier that all replicas share."""
    on_unsupported: Literal["Warn", "Reject"] = "Warn"
    """What to do with a stack whose engine cannot carry the policy out: run it without the tier and say so
    (`Warn`), or not accept the stack (`Reject`)."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="has(self.hostMemory) || has(self.shared)",
            holds=lambda self: self.host_memory is not None or self.shared is not None,
            message="name at least one tier: hostMemory or shared",
        ),
        CelRule(
            cel="!has(self.shared) || self.shared.backend != 'LMCache'"
            " || (has(self.hostMemory) && self.hostMemory.backend == 'LMCache')",
            holds=lambda self: (
                self.shared is None
                or (self.host_memory is not None and self.host_memory.backend == "LMCache")
            ),
            message="shared.backend LMCache extends the LMCache servers of host memory: set hostMemory.backend to LMCache",
            field_path=".shared",
        ),
    )


class KVTierPolicyStatus(ApiModel):
    """What the operator reports."""

    observed_generation: Generation = 0
    """The `metadata.generation` that this status was computed from."""
    conditions: Conditions = ()
    """Ready, Accepted, Enforced, Reconciling, Stalled."""
    attached_stacks: Annotated[
        tuple[DnsSubdomain, ...], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """Stacks that refer to this policy: the first 32 by name."""
    attached_stacks_total: Count = 0
    """How many stacks refer to this policy."""
    capabilities: Capabilities = ()
    """Every intent of the policy and the worst state any attached stack reports for it."""


class KVTierPolicy(ApiObject):
    """Where KV cache goes when it leaves the accelerator's memory, for every stack that refers to it."""

    spec: KVTierPolicySpec
    status: KVTierPolicyStatus = KVTierPolicyStatus()

    cel_rules: ClassVar[tuple[CelRule, ...]] = (SHORT_NAME,)
