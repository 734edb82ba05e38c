"""The picker's plugins, profiles and queue: which, with what weights, and from which guide each comes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentic_serving import names
from agentic_serving.api.rules import Rule
from agentic_serving.render.picker_inputs import PickerInputs, TierIndex

__all__ = ["Draft", "add_flow_control", "add_profiles"]

GUIDES = "github.com/llm-d/llm-d guides"
AGENTIC = f"{GUIDES}/agentic-serving/router/agentic-serving-gpu-program-aware.values.yaml"
AGENTIC_PD = f"{GUIDES}/agentic-serving/router (prefill and decode with host memory, 2026-06)"
PD = f"{GUIDES}/pd-disaggregation/router"
APPROX_SOURCE = "pkg/epp/framework/plugins/requestcontrol/dataproducer/approximateprefix/plugin.go"

#: Matches prompts whole where the context length is unknown; no served model takes more tokens.
WHOLE_PROMPT_TOKENS = 1 << 20
#: Limits of a priority band, the picker's own defaults written out: pkg/epp/flowcontrol/registry/config.go.
BAND_REQUESTS = "5000"
BAND_BYTES = "1G"

DEVICE_INDEX = "device-prefix-index"
PRECISE_INDEX = "precise-prefix-cache-producer"


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


@dataclass(slots=True)
class Draft:
    """A configuration in the making."""

    inputs: PickerInputs
    plugins: list[dict[str, Any]] = field(default_factory=list)
    profiles: list[dict[str, Any]] = field(default_factory=list)
    sections: dict[str, Any] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)

    def add(self, kind: str, *, name: str = "", parameters: Mapping[str, Any] | None = None) -> str:
        """Declares a plugin once and returns the name to refer to it by."""
        ref = name or kind
        if all(p.get("name", p["type"]) != ref for p in self.plugins):
            plugin: dict[str, Any] = {"type": kind}
            if ref != kind:
                plugin["name"] = ref
            if parameters:
                plugin["parameters"] = dict(parameters)
            self.plugins.append(plugin)
        return ref

    def because(self, name: str, reason: str, source: str) -> None:
        self.rules.append(Rule(id=f"picker/{name}", reason=reason, source=source))

    def config(self) -> dict[str, Any]:
        return {
            "apiVersion": self.inputs.release.config_api_version,
            "kind": "EndpointPickerConfig",
            "featureGates": ["flowControl"],
            "plugins": self.plugins,
            "schedulingProfiles": self.profiles,
            **self.sections,
        }


def add_profiles(draft: Draft) -> None:
    """The prefix indexes, the scorers that read them, and what chooses between profiles."""
    inputs = draft.inputs
    indexes = _indexes(draft)
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
        entries.append({"pluginRef": _scorer(draft, index), "weight": weight})
    if weights.no_hit_lru:
        entries.append({"pluginRef": draft.add("no-hit-lru-scorer"), "weight": weights.no_hit_lru})
    entries.append({"pluginRef": draft.add("max-score-picker")})
    draft.profiles.append({"name": name, "plugins": entries})
    draft.because(f"weights-{name}", f"Scorers and weights of profile {name}.", weights.source)


def _scorer(draft: Draft, index: str) -> str:
    if index == draft.inputs.release.default_prefix_producer:
        return draft.add("prefix-cache-scorer")
    return draft.add(
        "prefix-cache-scorer",
        name=f"{index}-scorer",
        parameters={"prefixMatchInfoProducerName": index},
    )


def _indexes(draft: Draft) -> list[str]:
    """Names of the prefix indexes, device memory first."""
    inputs = draft.inputs
    if inputs.precise:
        return [_add_precise(draft)]
    if not inputs.tiers or "TierAwareRouting" in inputs.release.lacks:
        return [_add_single_index(draft)]
    return _add_tier_indexes(draft)


def _add_single_index(draft: Draft) -> str:
    inputs = draft.inputs
    blocks = sum(tier.capacity_blocks for tier in inputs.tiers)
    parameters = _sized(inputs, blocks + (inputs.hbm_blocks or 0)) if blocks else _auto(inputs)
    draft.because(
        "prefix-index",
        "One index of what each replica was sent, matched over the whole context; the default of 4,096 tokens "
        "(gie-1.5) or 131,072 (llm-d) is shorter than agents' prompts.",
        APPROX_SOURCE,
    )
    return draft.add(inputs.release.default_prefix_producer, parameters=parameters)


def _add_tier_indexes(draft: Draft) -> list[str]:
    """Device memory and each tier get an index; the largest has the default name, so that deciders see all tiers."""
    inputs = draft.inputs
    device = _auto(inputs) if inputs.hbm_blocks is None else _sized(inputs, inputs.hbm_blocks)
    names = [draft.add(inputs.release.default_prefix_producer, name=DEVICE_INDEX, parameters=device)]
    tiers = sorted(inputs.tiers, key=lambda tier: (tier.capacity_blocks, tier.name))
    for tier in tiers:
        largest = tier is tiers[-1]
        names.append(
            draft.add(
                inputs.release.default_prefix_producer,
                name="" if largest else f"{tier.name}-prefix-index",
                parameters=_sized(inputs, tier.capacity_blocks),
            )
        )
    draft.because(
        "tier-indexes",
        f"An index per tier ({_describe(tiers)}), each sized from it: autoTune counts blocks of device memory only. "
        "The largest keeps the default name, which the prefill decider reads.",
        "github.com/llm-d/llm-d-router issue 1650; pkg/epp/framework/plugins/datalayer/attribute/prefix/data_types.go",
    )
    return names


def _describe(tiers: list[TierIndex]) -> str:
    return ", ".join(f"{tier.name}: {tier.capacity_blocks} blocks" for tier in tiers)


def _auto(inputs: PickerInputs) -> dict[str, Any]:
    return {"autoTune": True, "maxPrefixTokensToMatch": inputs.context_tokens or WHOLE_PROMPT_TOKENS}


def _sized(inputs: PickerInputs, capacity_blocks: int) -> dict[str, Any]:
    """An index as large as a tier. Its blocks are never finer than the release's floor, so there are fewer of them."""
    index_block = max(inputs.block_tokens, inputs.release.min_index_block_tokens)
    return {
        "autoTune": False,
        "blockSizeTokens": index_block,
        "maxPrefixTokensToMatch": inputs.context_tokens or WHOLE_PROMPT_TOKENS,
        "lruCapacityPerServer": max(1, capacity_blocks * inputs.block_tokens // index_block),
    }


def _add_precise(draft: Draft) -> str:
    inputs = draft.inputs
    draft.add("token-producer", parameters={"modelName": inputs.model, "vllm": {"url": inputs.tokenizer_url}})
    draft.add(
        PRECISE_INDEX,
        parameters={
            "tokenProcessorConfig": {"blockSizeTokens": inputs.block_tokens},
            "kvEventsConfig": {
                "engineType": "vllm",
                "topicFilter": "kv@",
                "discoverPods": True,
                "podDiscoveryConfig": {"socketPort": inputs.kv_events_port},
            },
            "speculativeIndexing": True,
        },
    )
    sources = {"metrics-data-source": "core-metrics-extractor", "endpoint-notification-source": PRECISE_INDEX}
    draft.sections["dataLayer"] = {
        "sources": [
            {"pluginRef": draft.add(source), "extractors": [{"pluginRef": draft.add(extractor)}]}
            for source, extractor in sources.items()
        ]
    }
    draft.because(
        "precise-index",
        "Replicas report their blocks by KV events; prompts are tokenized by a service, as estimated tokens match "
        "nothing. Speculative entries send siblings of a fan-out together before the engine has confirmed.",
        "deploy/config/epp-precise-prefix-cache-config.yaml; test/perf/config/router-configs/precise-prefix.yaml",
    )
    return PRECISE_INDEX


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
        draft.add(inputs.release.default_prefix_producer, parameters=_auto(inputs))
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
    """The one queue: sessions take turns by service attained, once the replicas run what they can."""
    inputs, release = draft.inputs, draft.inputs.release
    fairness = draft.add(release.fairness_plugin, parameters=release.fairness_parameters)
    draft.add("inflight-load-producer")
    detector = {"pluginRef": draft.add("concurrency-detector", parameters=_concurrency(inputs))}
    flow: dict[str, Any] = {
        "defaultRequestTTL": f"{inputs.request_timeout_s}s",
        "defaultPriorityBand": {
            "fairnessPolicyRef": fairness,
            "orderingPolicyRef": draft.add("fcfs-ordering-policy"),
            "maxRequests": BAND_REQUESTS,
            "maxBytes": BAND_BYTES,
        },
    }
    if release.saturation_detector_in == "top":
        draft.sections["saturationDetector"] = detector
    else:
        flow["saturationDetector"] = detector
    draft.sections["flowControl"] = flow
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


def _concurrency(inputs: PickerInputs) -> dict[str, Any]:
    if inputs.max_concurrency is None:
        return {}
    # Each router pod sees only what it sent itself, so each takes its part.
    return {"maxConcurrency": max(1, -(-inputs.max_concurrency // max(1, inputs.router_replicas)))}
