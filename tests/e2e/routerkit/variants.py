"""Every shape of picker configuration that rendering can produce, by name."""

from dataclasses import replace

from agentic_serving.render.picker import PickerInputs, TierIndex
from agentic_serving.render.releases import load_release

__all__ = ["PICKER_VARIANTS"]

_LLMD = PickerInputs(
    release=load_release("llm-d-0.10"),
    model="m",
    prefix_routing="Approximate",
    disaggregated=False,
    request_timeout_s=1800,
    max_concurrency=133,
    block_tokens=16,
    context_tokens=262_144,
)
_GIE = replace(_LLMD, release=load_release("gie-1.5"))
_HOST = TierIndex(name="host", capacity_blocks=400_000)
_DISK = TierIndex(name="disk", capacity_blocks=4_000_000)
_TOKENIZER = "http://tokenizer.default.svc:8000"

PICKER_VARIANTS: dict[str, PickerInputs] = {
    "llm-d-aggregated": _LLMD,
    "llm-d-unsized": replace(_LLMD, max_concurrency=None, context_tokens=None),
    "llm-d-host-tier": replace(_LLMD, hbm_blocks=50_000, tiers=(_HOST,)),
    "llm-d-host-tier-unsized": replace(_LLMD, tiers=(_HOST,)),
    "llm-d-two-tiers": replace(_LLMD, hbm_blocks=50_000, tiers=(_DISK, _HOST)),
    "llm-d-precise": replace(_LLMD, prefix_routing="Precise", tokenizer_url=_TOKENIZER),
    "llm-d-precise-replicas": replace(
        _LLMD, prefix_routing="Precise", tokenizer_url=_TOKENIZER, router_replicas=3
    ),
    "llm-d-disaggregated": replace(_LLMD, disaggregated=True),
    "llm-d-disaggregated-host-tier": replace(_LLMD, disaggregated=True, hbm_blocks=50_000, tiers=(_HOST,)),
    "llm-d-disaggregated-precise": replace(
        _LLMD, disaggregated=True, prefix_routing="Precise", tokenizer_url=_TOKENIZER
    ),
    "llm-d-disaggregated-revisions": replace(_LLMD, disaggregated=True, revision_scope="app=engine"),
    "gie-aggregated": _GIE,
    "gie-unsized": replace(_GIE, max_concurrency=None, context_tokens=None),
    "gie-host-tier": replace(_GIE, hbm_blocks=50_000, tiers=(_HOST,)),
}
