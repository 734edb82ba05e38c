"""The picker's profiles and its queue: which plugins, with what weights, and from which guide each comes."""

from dataclasses import dataclass
from typing import Any

from agentic_serving import names
from agentic_serving.render.picker_draft import Draft
from agentic_serving.render.picker_inputs import PickerInputs
from agentic_serving.render.picker_prefix import add_indexes, add_scorer, auto_sized

__all__ = ["add_flow_control", "add_profiles"]

GUIDES = "github.com/llm-d/llm-d guides"
AGENTIC = f"{GUIDES}/agentic-serving/router/agentic-serving-gpu-program-aware.values.yaml"
AGENTIC_PD = f"{GUIDES}/agentic-serving/router (prefill and decode with host memory, 2026-06)"
PD = f"{GUIDES}/pd-disaggregation/router"

#: Limits of a priority band, the picker's own defaults written out: pkg/epp/flowcontrol/registry/config.go.
BAND_REQUESTS = "5000"
BAND_BYTES = "1G"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights of the scorers in one profile; 0 leaves a scorer out."""

    queue: int = 0
    kv_utilization: int = 0
    active_requests: int = 0
    device_prefix: int
    tier_prefix: int = 0
    no_hit_lru: int = 0
    source: str


# One index: the published program-aware configuration, and the plain P/D guide's two profiles.
AGGREGATED = Weights(queue=2, kv_utilization=2, device_prefix=3, source=AGENTIC)
PREFILL = Weights(queue=2, kv_utilization=2, device_prefix=3, source=PD)
DECODE = Weights(active_requests=2, device_prefix=3, source=PD)
# With tiers: the agentic P/D guide. An aggregated replica prefills, so it is weighed as a prefill pod is.
PREFILL_TIERS = Weights(
    queue=2, kv_utilization=2, device_prefix=4, tier_prefix=2, no_hit_lru=1, source=AGENTIC_PD
)
DECODE_TIERS = Weights(active_requests=2, device_prefix=3, tier_prefix=1, source=AGENTIC_PD)


def add_profiles(draft: Draft) -> None:
    """The prefix indexes, the scorers that read them, and what chooses between profiles."""
    inputs = draft.inputs
    indexes = add_indexes(draft)
    tiered = len(indexes) > 1
    if inputs.disaggregated:
        _add_decider(draft)
        if inputs.revision_scope:
            _add_revisions(draft)
        _add_profile(draft, "prefill", PREFILL_TIERS if tiered else PREFILL, indexes, ["prefill-filter"])
        _add_profile(draft, "decode", DECODE_TIERS if tiered else DECODE, indexes, ["decode-filter"])
    else:
        draft.add("single-profile-handler")
        _add_profile(draft, "default", PREFILL_TIERS if tiered else AGGREGATED, indexes, [])
    if inputs.release.parsers:
        parsers = [{"pluginRef": draft.add(parser)} for parser in inputs.release.parsers]
        draft.sections["requestHandler"] = {"parsers": parsers}
        draft.because(
            "parsers",
            "Chat completions, responses and messages are understood; paths that are none of them pass through.",
            "pkg/epp/handlers/parsers.go",
        )


def _add_profile(draft: Draft, name: str, weights: Weights, indexes: list[str], filters: list[str]) -> None:
    entries: list[dict[str, Any]] = [{"pluginRef": draft.add(kind)} for kind in filters]
    for kind, weight in (
        ("queue-scorer", weights.queue),
        ("kv-cache-utilization-scorer", weights.kv_utilization),
        ("active-request-scorer", weights.active_requests),
    ):
        if weight:
            entries.append({"pluginRef": draft.add(kind), "weight": weight})
    for position, index in enumerate(indexes):
        weight = weights.tier_prefix if position else weights.device_prefix
        entries.append({"pluginRef": add_scorer(draft, index), "weight": weight})
    if weights.no_hit_lru:
        entries.append({"pluginRef": draft.add("no-hit-lru-scorer"), "weight": weights.no_hit_lru})
    entries.append({"pluginRef": draft.add("max-score-picker")})
    draft.profiles.append({"name": name, "plugins": entries})
    draft.because(f"weights-{name}", f"Scorers and weights of profile {name}.", weights.source)


def _add_decider(draft: Draft) -> None:
    inputs = draft.inputs
    decider = draft.add(
        "prefix-based-pd-decider", parameters={"nonCachedTokens": inputs.uncached_token_threshold}
    )
    draft.add("disagg-profile-handler", parameters={"deciders": {"prefill": decider}})
    draft.because(
        "disaggregation",
        f"Prompts with at least {inputs.uncached_token_threshold} uncached tokens are prefilled apart.",
        "spec.topology.disaggregated.uncachedTokenThreshold; docs/disaggregation.md",
    )
    if inputs.precise:
        draft.add(inputs.release.default_prefix_producer, parameters=auto_sized(inputs))
        draft.because(
            "decider-index",
            "The decider reads the approximate index even where scorers read the precise one.",
            "pkg/epp/framework/plugins/scheduling/profilehandler/disagg/prefix_based_pd_decider.go",
        )


def _add_revisions(draft: Draft) -> None:
    """Each request keeps to pods of one revision. It needs a decode pod only: a revision without a prefill pod
    prefills where it decodes, where asking for both roles would answer 503 in the middle of a rollout."""
    draft.add(
        "disaggregatedset-rollout-screener",
        parameters={
            "scope": {"labelSelector": draft.inputs.revision_scope},
            "revisionGating": {
                "mode": "sum",
                "revisionLabelKey": names.REVISION_LABEL,
                "roleLabelKey": "llm-d.ai/role",
                "requireRoles": {"values": ["decode"]},
            },
        },
    )
    draft.because(
        "revisions",
        "Prefill and decode pods of different revisions never serve one request: their KV caches may not fit.",
        "pkg/epp/framework/plugins/requestcontrol/screener/disaggregatedsetrollout; docs/decisions/0002-prefill-decode-revisions.md",
    )


def add_flow_control(draft: Draft) -> None:
    """The one queue, where it is the picker's: sessions take turns by service attained, once the replicas run what they can."""
    inputs, release = draft.inputs, draft.inputs.release
    detector = _saturation(draft)
    if not inputs.queueing:
        _leave_queueing(draft, detector)
        return
    fairness = draft.add(release.fairness_plugin, parameters=release.fairness_parameters)
    flow: dict[str, Any] = {
        "defaultRequestTTL": f"{inputs.request_timeout_s}s",
        "defaultPriorityBand": {
            "fairnessPolicyRef": fairness,
            "orderingPolicyRef": draft.add("fcfs-ordering-policy"),
            "maxRequests": BAND_REQUESTS,
            "maxBytes": BAND_BYTES,
        },
    }
    _add_sections(draft, flow, detector)
    draft.because(
        "fair-queue",
        f"{fairness} chooses which session is served next, first come first served within.",
        AGENTIC,
    )
    draft.because(
        "queue-ttl",
        "Queueing may take as long as the request; the default of 60 s (llm-d) sheds agents' turns.",
        "spec.router.requestTimeout; pkg/epp/flowcontrol/controller/config.go",
    )
    draft.because(
        "saturation",
        "Requests wait here instead of in the engines, once each replica runs its --max-num-seqs and 4% more; "
        "the default detector throttles to nothing under agents' load.",
        AGENTIC,
    )


def _saturation(draft: Draft) -> dict[str, Any]:
    draft.add("inflight-load-producer")
    return {"pluginRef": draft.add("concurrency-detector", parameters=_concurrency(draft.inputs))}


def _leave_queueing(draft: Draft, detector: dict[str, Any]) -> None:
    """Without the gate nothing waits in the picker. Its detector then only says when requests of a priority below 0 are shed."""
    _add_sections(draft, {}, detector)
    draft.because(
        "one-queue",
        "The program scheduler holds turns, so the picker does not queue: two queues would each undo the other's order.",
        "spec.programScheduling.mode Enforce; pkg/epp/config/loader (feature gate flowControl, off by default)",
    )


def _add_sections(draft: Draft, flow: dict[str, Any], detector: dict[str, Any]) -> None:
    """The flow control, with its detector where the release looks for it."""
    if draft.inputs.release.saturation_detector_in == "top":
        draft.sections["saturationDetector"] = detector
    else:
        flow["saturationDetector"] = detector
    if flow:
        draft.sections["flowControl"] = flow


def _concurrency(inputs: PickerInputs) -> dict[str, Any]:
    if inputs.max_concurrency is None:
        return {}
    # Each router pod sees only what it sent itself, so each takes its part.
    return {"maxConcurrency": max(1, -(-inputs.max_concurrency // max(1, inputs.router_replicas)))}
