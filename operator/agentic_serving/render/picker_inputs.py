"""What the endpoint picker's configuration is made from, and what its release can and cannot do with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from agentic_serving.api.capability import Capability
from agentic_serving.api.findings import Finding
from agentic_serving.render.releases import PickerRelease

__all__ = ["PickerInputs", "TierIndex", "picker_capabilities", "picker_findings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TierIndex:
    """A tier below device memory that one replica has to itself. Shared stores serve every replica alike: no index."""

    name: str  # such as "host"
    capacity_blocks: int  # engine blocks that one replica's tier holds


@dataclass(frozen=True, slots=True, kw_only=True)
class PickerInputs:
    """Finished values; nothing here is looked up.

    Attributes:
        model: name under which the engines serve the model.
        disaggregated: prefill and decode pools, else one pool of aggregated replicas.
        request_timeout_s: longest time in the queue; the picker's own default of 60 s ends agents' turns.
        max_concurrency: requests one replica runs at once, with the margin; None: the release's default of 100.
        block_tokens: tokens of an engine's cache block.
        context_tokens: longest prompt; None: unknown, so prompts are matched whole.
        uncached_token_threshold: prompts with fewer uncached tokens are prefilled where they decode; disaggregated only.
        hbm_blocks: blocks in one replica's device memory; None: the picker reads it from the engine's metrics.
        tiers: private tiers of a replica, any order.
        tokenizer_url: service that renders prompts to tokens; Precise only.
        kv_events_port: where engines publish KV events; Precise only.
        revision_scope: label selector of the stack's engine pods; with it, prefill and decode pods are paired within one
            revision only; disaggregated only.
        router_replicas: router pods; each holds a picker of its own.
        queueing: requests wait in the picker; False where the program scheduler holds them, as there is one queue.
    """

    release: PickerRelease
    model: str
    prefix_routing: Literal["Approximate", "Precise"]
    disaggregated: bool
    request_timeout_s: int
    max_concurrency: int | None
    block_tokens: int
    context_tokens: int | None = None
    uncached_token_threshold: int = 512
    hbm_blocks: int | None = None
    tiers: tuple[TierIndex, ...] = ()
    tokenizer_url: str = ""
    kv_events_port: int = 5556
    revision_scope: str = ""
    router_replicas: int = 1
    queueing: bool = True

    @property
    def precise(self) -> bool:
        return self.prefix_routing == "Precise"


def picker_findings(inputs: PickerInputs) -> tuple[Finding, ...]:
    """What the user asked for and the release refuses: errors, each by name."""
    return tuple(_findings(inputs))


def _findings(inputs: PickerInputs) -> Iterator[Finding]:
    release = inputs.release
    if inputs.disaggregated and "Disaggregation" in release.lacks:
        yield Finding(
            path="spec.topology.disaggregated",
            reason="DisaggregationUnsupported",
            message=f"the picker {release.name} {release.lacks['Disaggregation']}; use topology.aggregated, "
            "or a release of llm-d in router.endpointPicker.release",
        )
    if inputs.precise and "PrecisePrefixRouting" in release.lacks:
        yield Finding(
            path="spec.router.prefixRouting",
            reason="PrecisePrefixRoutingUnsupported",
            message=f"the picker {release.name} {release.lacks['PrecisePrefixRouting']}; use Approximate, "
            "or a release of llm-d in router.endpointPicker.release",
        )
    if inputs.router_replicas > 1 and not inputs.precise and inputs.queueing:
        yield Finding(
            path="spec.router.replicas",
            reason="PickerStatePerPod",
            message="with approximate prefix routing each picker knows only what it routed itself; use one router pod, "
            "programScheduling.mode: Enforce, whose one active scheduler places requests, or prefixRouting: Precise",
        )


def picker_capabilities(inputs: PickerInputs) -> tuple[Capability, ...]:
    """What becomes of each intent that the picker carries out."""
    return tuple(_capabilities(inputs))


def _capabilities(inputs: PickerInputs) -> Iterator[Capability]:
    if inputs.queueing:
        yield _fair_queueing(inputs)
    if inputs.precise:
        yield _known(inputs, "PrecisePrefixRouting", "precise-prefix-cache-producer")
    if inputs.tiers:
        yield _tier_aware(inputs)
    if inputs.disaggregated:
        yield _known(inputs, "Disaggregation", "disagg-profile-handler, prefix-based-pd-decider")
    yield _known(inputs, "AnthropicMessages", "anthropic-parser")


def _known(inputs: PickerInputs, intent: str, mechanism: str) -> Capability:
    lacks = inputs.release.lacks.get(intent)
    if lacks is None:
        return Capability(intent=intent, role="Router", state="Supported", mechanism=mechanism)
    return Capability(
        intent=intent, role="Router", state="Unsupported", reason=f"the picker {inputs.release.name} {lacks}"
    )


def _fair_queueing(inputs: PickerInputs) -> Capability:
    release = inputs.release
    reasons = []
    if "FairQueueing" in release.lacks:
        reasons.append(f"the picker {release.name} {release.lacks['FairQueueing']}")
    if inputs.disaggregated:
        # concurrency/detector.go of v0.10.0 divides requests in flight by the capacity of all pods of the pool.
        reasons.append("load is measured over prefill and decode pods together, so queueing starts late")
    if inputs.router_replicas > 1:
        reasons.append("each router pod queues on its own and sees only its own requests")
    return Capability(
        intent="FairQueueing",
        role="Router",
        state="Approximated" if reasons else "Supported",
        mechanism=release.fairness_plugin,
        reason="; ".join(reasons),
    )


def _tier_aware(inputs: PickerInputs) -> Capability:
    release = inputs.release
    if "TierAwareRouting" in release.lacks:
        reason = f"the picker {release.name} {release.lacks['TierAwareRouting']}"
        mechanism = "one prefix index, sized for all tiers"
    elif inputs.precise:
        return Capability(
            intent="TierAwareRouting",
            role="Router",
            state="Supported",
            mechanism="KV events with a weight per medium",
        )
    else:
        reason = "indexes of what was routed, sized from the tier; the engine's own evictions are not seen"
        mechanism = "a prefix index per tier"
    return Capability(
        intent="TierAwareRouting", role="Router", state="Approximated", mechanism=mechanism, reason=reason
    )
