"""From a KVTierPolicy to the tiers of one role: which backend carries each, or why nothing does."""

from dataclasses import replace

from agentic_serving.api.capability import Capability, CapabilityState
from agentic_serving.api.findings import Finding
from agentic_serving.api.policy import KVTierPolicySpec
from agentic_serving.api.quantities import parse_bytes
from agentic_serving.tiers.base import TierInputs, TierPlan
from agentic_serving.tiers.lmcache import MECHANISM as LMCACHE
from agentic_serving.tiers.lmcache import lmcache_caveat, lmcache_plan, lmcache_unsupported
from agentic_serving.tiers.native import MECHANISM as NATIVE
from agentic_serving.tiers.native import native_plan, native_unsupported

__all__ = ["plan_tiers"]

_PATH = "spec.kvTierPolicyRef"
_UNBOUNDED = (
    "nothing removes old files: LMCache's file-system store has no limit, and its coordinator evicts only once a "
    "quota is set (PUT /quota/config); watch the volume's free space"
)


def plan_tiers(inputs: TierInputs) -> TierPlan:
    """The tiers of one role; what cannot be carried out is left out and said, or refused if the policy says so."""
    policy = inputs.policy
    if policy is None or policy.host_memory is None:
        return TierPlan()
    why = _unsupported(inputs, policy)
    if why is not None:
        return _without_tiers(inputs, policy, why)
    capacity_bytes = parse_bytes(
        policy.host_memory.capacity_per_replica, "spec.hostMemory.capacityPerReplica"
    )
    if policy.host_memory.backend == "Native":
        plan = native_plan(inputs, capacity_bytes)
    else:
        plan = lmcache_plan(inputs, capacity_bytes, policy.shared)
    small = _too_small(plan)
    return replace(plan, capabilities=_carried_out(inputs, policy), findings=small)


def _unsupported(inputs: TierInputs, policy: KVTierPolicySpec) -> str | None:
    if policy.host_memory is not None and policy.host_memory.backend == "Native":
        return native_unsupported(inputs)
    return lmcache_unsupported(inputs)


def _carried_out(inputs: TierInputs, policy: KVTierPolicySpec) -> tuple[Capability, ...]:
    native = policy.host_memory is not None and policy.host_memory.backend == "Native"
    caveat = None if native else lmcache_caveat(inputs)
    state: CapabilityState = "Supported" if caveat is None else "Approximated"
    host = _capability(inputs, "HostMemoryTier", state, NATIVE if native else LMCACHE, caveat or "")
    if policy.shared is None:
        return (host,)
    shared = _capability(
        inputs, "SharedTier", "Approximated", "LMCache file-system store and coordinator", _UNBOUNDED
    )
    return (host, shared)


def _without_tiers(inputs: TierInputs, policy: KVTierPolicySpec, why: str) -> TierPlan:
    intents = ["HostMemoryTier"] + (["SharedTier"] if policy.shared is not None else [])
    rejected = policy.on_unsupported == "Reject"
    consequence = (
        "the policy's onUnsupported is Reject: change the policy or the stack"
        if rejected
        else "the stack runs without the tier"
    )
    finding = Finding(
        path=_PATH,
        reason="TierUnsupported",
        message=f"{inputs.role}: {why}; {consequence}",
        severity="Error" if rejected else "Warning",
    )
    capabilities = tuple(_capability(inputs, intent, "Unsupported", reason=why) for intent in intents)
    return TierPlan(capabilities=capabilities, findings=(finding,))


def _too_small(plan: TierPlan) -> tuple[Finding, ...]:
    """A tier that holds no block would keep the engine from starting."""
    if plan.capacity_blocks is None or plan.capacity_blocks > 0:
        return ()
    message = "the policy's hostMemory.capacityPerReplica does not hold one block of this model's KV cache: raise it"
    return (Finding(path=_PATH, reason="TierTooSmall", message=message),)


def _capability(
    inputs: TierInputs, intent: str, state: CapabilityState, mechanism: str = "", reason: str = ""
) -> Capability:
    return Capability(intent=intent, role=inputs.role, state=state, mechanism=mechanism, reason=reason)
