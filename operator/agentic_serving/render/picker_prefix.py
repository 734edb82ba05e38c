"""The picker's prefix indexes: what each replica has cached, guessed per tier or told by KV events."""

from typing import Any

from agentic_serving.render.picker_draft import Draft
from agentic_serving.render.picker_inputs import PickerInputs, TierIndex

__all__ = ["add_indexes", "add_scorer", "auto_sized"]

APPROX_SOURCE = "pkg/epp/framework/plugins/requestcontrol/dataproducer/approximateprefix/plugin.go"

#: Matches prompts whole where the context length is unknown; no served model takes more tokens.
WHOLE_PROMPT_TOKENS = 1 << 20

DEVICE_INDEX = "device-prefix-index"
PRECISE_INDEX = "precise-prefix-cache-producer"


def add_scorer(draft: Draft, index: str) -> str:
    if index == draft.inputs.release.default_prefix_producer:
        return draft.add("prefix-cache-scorer")
    return draft.add(
        "prefix-cache-scorer",
        name=f"{index}-scorer",
        parameters={"prefixMatchInfoProducerName": index},
    )


def add_indexes(draft: Draft) -> list[str]:
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
    parameters = _sized(inputs, blocks + (inputs.hbm_blocks or 0)) if blocks else auto_sized(inputs)
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
    device = auto_sized(inputs) if inputs.hbm_blocks is None else _sized(inputs, inputs.hbm_blocks)
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


def auto_sized(inputs: PickerInputs) -> dict[str, Any]:
    """An index whose size follows the blocks that the engine reports."""
    return {
        "autoTune": True,
        "blockSizeTokens": _index_block_tokens(inputs),
        "maxPrefixTokensToMatch": inputs.context_tokens or WHOLE_PROMPT_TOKENS,
    }


def _sized(inputs: PickerInputs, capacity_blocks: int) -> dict[str, Any]:
    """An index as large as a tier; where its blocks are larger than the engine's, it has fewer of them."""
    index_block = _index_block_tokens(inputs)
    return {
        "autoTune": False,
        "blockSizeTokens": index_block,
        "maxPrefixTokensToMatch": inputs.context_tokens or WHOLE_PROMPT_TOKENS,
        "lruCapacityPerServer": max(1, capacity_blocks * inputs.block_tokens // index_block),
    }


def _index_block_tokens(inputs: PickerInputs) -> int:
    """The engine's block, or the release's finest, which it would use anyway and warn about."""
    return max(inputs.block_tokens, inputs.release.min_index_block_tokens)


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
