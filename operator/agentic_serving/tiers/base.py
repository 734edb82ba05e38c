"""What a plan for the KV tiers of one role consists of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentic_serving.api.capability import Capability
from agentic_serving.api.findings import Finding
from agentic_serving.api.policy import KVTierPolicySpec
from agentic_serving.api.rules import Rule
from agentic_serving.capacity.accelerator import Accelerator, Setting
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.capacity.sizing import Parallelism, tier_blocks, tier_tokens

__all__ = ["Coordinator", "Role", "TierInputs", "TierPlan", "sized"]

#: The role of an engine pool; the API's word for it.
Role = Literal["Aggregated", "Prefill", "Decode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TierInputs:
    """Everything that decides which tiers one role gets, and how."""

    policy: KVTierPolicySpec | None  # None: no policy
    accelerator: Accelerator
    role: Role
    version: str  # of the engine
    block_tokens: int  # tokens per KV block of the engine
    engine: str = "vLLM"
    engine_image: str = ""  # LMCache's server and coordinator run from it
    engine_packages: tuple[str, ...] | None = None  # connector packages in it; None: the user's own image
    parallelism: Parallelism = field(default_factory=Parallelism)
    profile: ModelProfile | None = None  # None: capacities in tokens are not known
    coordinator_host: str | None = None  # DNS name of the coordinator's Service; needed for a shared tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """The one LMCache coordinator of a stack: a Deployment of one pod and a Service."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[Setting, ...]
    port: int
    health_path: str
    resources: Mapping[str, Any]  # a container's `resources`
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPlan:
    """How the tiers of one role are carried out; empty where there are none."""

    connector: dict[str, Any] | None = None  # a KVTransferConfig, to be combined with the transfer's
    env: tuple[Setting, ...] = ()  # of the engine container
    sidecars: tuple[dict[str, Any], ...] = ()  # init containers with restartPolicy Always
    volumes: tuple[dict[str, Any], ...] = ()  # of the pod
    mounts: tuple[dict[str, Any], ...] = ()  # of the engine container
    shm_bytes: int = 0  # added to /dev/shm, which engine and sidecars share
    engine_memory_bytes: int = 0  # added to the engine container's memory
    memory_bytes: int = 0  # added to the whole pod's memory, sidecars included
    capacity_bytes: int | None = None  # of KV cache that a replica's host memory keeps
    capacity_tokens: int | None = None
    capacity_blocks: int | None = None  # for the picker's index
    coordinator: Coordinator | None = None
    capabilities: tuple[Capability, ...] = ()
    findings: tuple[Finding, ...] = ()
    rules: tuple[Rule, ...] = ()


def sized(inputs: TierInputs, capacity_bytes: int) -> tuple[int | None, int | None]:
    """(tokens, blocks) that `capacity_bytes` holds; None where the model's size is not known."""
    if inputs.profile is None:
        return None, None
    tensor = inputs.parallelism.tensor
    tokens = tier_tokens(capacity_bytes, inputs.profile, tensor=tensor)
    return tokens, tier_blocks(capacity_bytes, inputs.profile, inputs.block_tokens, tensor=tensor)
