"""render.picker: strict schema of llm-d v0.10, sizes by hand, laws over all inputs, refusals by name."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agentic_serving.errors import Bug
from agentic_serving.render.envoy import to_yaml
from agentic_serving.render.picker import (
    PickerConfig,
    PickerInputs,
    TierIndex,
    picker_args,
    picker_capabilities,
    picker_config,
    picker_findings,
    picker_rbac,
    sidecar_args,
)
from agentic_serving.render.releases import load_release
from tests.e2e.routerkit.golden import golden_files
from tests.e2e.routerkit.variants import PICKER_VARIANTS

LLMD = PICKER_VARIANTS["llm-d-aggregated"]
GIE = PICKER_VARIANTS["gie-aggregated"]
#: The rest is written for gie-1.5; tests/e2e loads it into the real picker.
LLMD_GOLDEN = [
    file
    for file, config in golden_files("picker.yaml").items()
    if config["apiVersion"] == LLMD.release.config_api_version
]
SCHEMA = Path(__file__).parents[2] / "schemas" / "llm-d-0.10-endpointpickerconfig.yaml"


@cache
def llmd_schema() -> Draft202012Validator:
    schema = yaml.safe_load(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def plugin(config: PickerConfig, name: str) -> dict[str, Any]:
    """Parameters of the plugin that is referred to by this name."""
    (found,) = [p for p in config.config["plugins"] if p.get("name", p["type"]) == name]
    parameters: dict[str, Any] = found.get("parameters", {})
    return parameters


def weights(config: PickerConfig, profile: str) -> dict[str, float]:
    (found,) = [p for p in config.config["schedulingProfiles"] if p["name"] == profile]
    return {entry["pluginRef"]: entry["weight"] for entry in found["plugins"] if "weight" in entry}


def references(value: object) -> Iterator[str]:
    """Every name that refers to a plugin, wherever it stands."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key in {"pluginRef", "fairnessPolicyRef", "orderingPolicyRef", "prefixMatchInfoProducerName"}:
                yield child
            elif key == "deciders":
                yield from child.values()
            else:
                yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


inputs_of_llmd = st.builds(
    PickerInputs,
    release=st.just(LLMD.release),
    model=st.text(min_size=1),
    prefix_routing=st.sampled_from(["Approximate", "Precise"]),
    disaggregated=st.booleans(),
    request_timeout_s=st.integers(1, 86_400),
    max_concurrency=st.none() | st.integers(1, 4096),
    block_tokens=st.sampled_from([1, 8, 16, 64, 256, 2048]),
    context_tokens=st.none() | st.integers(1, 10_000_000),
    uncached_token_threshold=st.integers(1, 1_000_000),
    hbm_blocks=st.none() | st.integers(1, 10**8),
    tiers=st.lists(
        st.builds(
            TierIndex, name=st.sampled_from(["host", "disk", "far"]), capacity_blocks=st.integers(1, 10**10)
        ),
        max_size=3,
        unique_by=lambda tier: tier.name,
    ).map(tuple),
    tokenizer_url=st.just("http://tokenizer:8000"),
    kv_events_port=st.integers(1, 65535),
    revision_scope=st.sampled_from(["", "app=engine"]),
)


@pytest.mark.parametrize("variant", [name for name in PICKER_VARIANTS if name.startswith("llm-d")])
def test_every_variant_is_what_llm_d_decodes(variant: str) -> None:
    config = picker_config(PICKER_VARIANTS[variant])
    assert [error.message for error in llmd_schema().iter_errors(config.config)] == []


@pytest.mark.parametrize("file", LLMD_GOLDEN)
def test_every_golden_configuration_is_what_llm_d_decodes(file: str) -> None:
    assert [error.message for error in llmd_schema().iter_errors(golden_files("picker.yaml")[file])] == []


@settings(deadline=None)  # the machine may be busy; the work is bounded
@given(inputs_of_llmd)
def test_any_input_gives_a_configuration_that_llm_d_decodes(inputs: PickerInputs) -> None:
    config = picker_config(inputs)
    llmd_schema().validate(config.config)
    names = [p.get("name", p["type"]) for p in config.config["plugins"]]
    assert len(names) == len(set(names))
    assert set(references(config.config)) <= set(names)
    assert (
        yaml.load(to_yaml(config.config), Loader=yaml.CSafeLoader) == config.config
    )  # hostile model names stay data
    assert to_yaml(config.config) == to_yaml(picker_config(inputs).config)


@settings(deadline=None)  # the machine may be busy; the work is bounded
@given(inputs_of_llmd)
def test_an_index_is_never_larger_in_tokens_than_its_tier(inputs: PickerInputs) -> None:
    largest = max((tier.capacity_blocks for tier in inputs.tiers), default=0)
    bound = max(largest, inputs.hbm_blocks or 0) * inputs.block_tokens
    for found in picker_config(inputs).config["plugins"]:
        parameters = found.get("parameters", {})
        if parameters.get("lruCapacityPerServer", 1) > 1:
            assert parameters["lruCapacityPerServer"] * parameters["blockSizeTokens"] <= bound


def test_the_published_program_aware_weights() -> None:
    # llm-d guides/agentic-serving/router/agentic-serving-gpu-program-aware.values.yaml
    config = picker_config(LLMD)
    assert weights(config, "default") == {
        "queue-scorer": 2,
        "kv-cache-utilization-scorer": 2,
        "prefix-cache-scorer": 3,
    }
    assert plugin(config, "concurrency-detector") == {"maxConcurrency": 133}
    assert plugin(config, "program-aware-fairness") == {"strategy": "las", "lasHalfLifeSeconds": 60}


def test_the_queue_lasts_as_long_as_a_request() -> None:
    """llm-d's default of 60 s would shed agents' turns."""
    for inputs in (LLMD, GIE):
        assert picker_config(inputs).config["flowControl"]["defaultRequestTTL"] == "1800s"


@pytest.mark.parametrize(
    ("replicas", "each"), [(1, 133), (2, 67), (3, 45), (200, 1)], ids=["one", "two", "three", "many"]
)
def test_router_pods_share_what_a_replica_runs(replicas: int, each: int) -> None:
    inputs = replace(LLMD, prefix_routing="Precise", router_replicas=replicas)
    assert plugin(picker_config(inputs), "concurrency-detector") == {"maxConcurrency": each}


def test_tiers_get_indexes_of_their_size_in_blocks_no_finer_than_the_pickers() -> None:
    # 16-token blocks become 64-token entries: a quarter as many.
    config = picker_config(PICKER_VARIANTS["llm-d-host-tier"])
    assert plugin(config, "device-prefix-index")["lruCapacityPerServer"] == 12_500
    assert plugin(config, "approx-prefix-cache-producer")["lruCapacityPerServer"] == 100_000
    assert plugin(config, "approx-prefix-cache-producer")["autoTune"] is False
    assert weights(config, "default") == {
        "queue-scorer": 2,
        "kv-cache-utilization-scorer": 2,
        "device-prefix-index-scorer": 4,
        "prefix-cache-scorer": 2,
        "no-hit-lru-scorer": 1,
    }


def test_the_largest_tier_has_the_index_that_the_decider_reads() -> None:
    config = picker_config(replace(PICKER_VARIANTS["llm-d-two-tiers"], disaggregated=True))
    assert plugin(config, "approx-prefix-cache-producer")["lruCapacityPerServer"] == 1_000_000
    assert plugin(config, "host-prefix-index")["lruCapacityPerServer"] == 100_000


def test_a_release_with_one_index_sizes_it_for_all_tiers() -> None:
    config = picker_config(PICKER_VARIANTS["gie-host-tier"])
    parameters = plugin(config, "approx-prefix-cache-producer")
    assert (parameters["lruCapacityPerServer"], parameters["blockSizeTokens"]) == (450_000, 16)


def test_precise_routing_and_the_decider_each_have_their_index() -> None:
    config = picker_config(PICKER_VARIANTS["llm-d-disaggregated-precise"])
    assert plugin(config, "precise-prefix-cache-producer-scorer") == {
        "prefixMatchInfoProducerName": "precise-prefix-cache-producer"
    }
    assert plugin(config, "approx-prefix-cache-producer")["autoTune"] is True
    assert plugin(config, "token-producer")["vllm"] == {"url": "http://tokenizer.default.svc:8000"}


def test_upstreams_detector_stands_at_the_top_and_its_policy_is_round_robin() -> None:
    config = picker_config(GIE).config
    assert config["apiVersion"] == "inference.networking.x-k8s.io/v1alpha1"
    assert config["saturationDetector"] == {"pluginRef": "concurrency-detector"}
    assert config["flowControl"]["defaultPriorityBand"]["fairnessPolicyRef"] == "round-robin-fairness-policy"


@pytest.mark.parametrize(
    ("inputs", "reasons"),
    [
        (LLMD, []),
        (PICKER_VARIANTS["llm-d-disaggregated"], []),
        (replace(GIE, disaggregated=True), ["DisaggregationUnsupported"]),
        (replace(GIE, prefix_routing="Precise"), ["PrecisePrefixRoutingUnsupported"]),
        (replace(LLMD, router_replicas=2), ["PickerStatePerPod"]),
        (replace(LLMD, router_replicas=2, prefix_routing="Precise"), []),
    ],
    ids=["plain", "llm-d-pd", "gie-pd", "gie-precise", "approximate-replicas", "precise-replicas"],
)
def test_what_a_release_cannot_do_is_refused_by_name(inputs: PickerInputs, reasons: list[str]) -> None:
    findings = picker_findings(inputs)
    assert [finding.reason for finding in findings] == reasons
    assert all(inputs.release.name in f.message for f in findings if f.reason.endswith("Unsupported"))
    if reasons:
        with pytest.raises(Bug, match="refused"):
            picker_config(inputs)


@pytest.mark.parametrize(
    ("inputs", "states"),
    [
        (LLMD, {"FairQueueing": "Supported", "AnthropicMessages": "Supported"}),
        (GIE, {"FairQueueing": "Approximated", "AnthropicMessages": "Unsupported"}),
        (
            PICKER_VARIANTS["llm-d-disaggregated-host-tier"],
            {
                "FairQueueing": "Approximated",
                "TierAwareRouting": "Approximated",
                "Disaggregation": "Supported",
                "AnthropicMessages": "Supported",
            },
        ),
        (
            replace(PICKER_VARIANTS["llm-d-precise"], tiers=(TierIndex(name="host", capacity_blocks=9),)),
            {
                "FairQueueing": "Supported",
                "PrecisePrefixRouting": "Supported",
                "TierAwareRouting": "Supported",
                "AnthropicMessages": "Supported",
            },
        ),
        (
            replace(GIE, disaggregated=True, prefix_routing="Precise"),
            {
                "FairQueueing": "Approximated",
                "PrecisePrefixRouting": "Unsupported",
                "Disaggregation": "Unsupported",
                "AnthropicMessages": "Unsupported",
            },
        ),
    ],
    ids=["llm-d", "gie", "llm-d-pd-tier", "precise-tier", "gie-all"],
)
def test_capabilities_say_what_is_and_why_what_is_not(inputs: PickerInputs, states: dict[str, str]) -> None:
    found = picker_capabilities(inputs)
    assert {capability.intent: capability.state for capability in found} == states
    assert all(bool(capability.reason) == (capability.state != "Supported") for capability in found)
    assert all(bool(capability.mechanism) == (capability.state != "Unsupported") for capability in found)


def test_the_gated_flag_comes_only_with_an_alpha_plugin() -> None:
    plain = picker_config(LLMD)
    alpha = PickerConfig(
        config={**plain.config, "plugins": [*plain.config["plugins"], {"type": "agent-identity"}]}, rules=()
    )
    gate = "--allow-experimental-plugins=true"

    def args(config: PickerConfig) -> tuple[str, ...]:
        return picker_args(LLMD.release, config, pool_name="p", pool_namespace="n", config_file="/c")

    assert gate not in args(plain)
    assert gate in args(alpha)
    assert {"--pool-name=p", "--pool-namespace=n", "--config-file=/c", "--secure-serving=false"} <= set(
        args(plain)
    )


def test_rights_are_to_read_and_follow_the_release() -> None:
    for name, group in (("llm-d-0.10", "llm-d.ai"), ("gie-1.5", "inference.networking.x-k8s.io")):
        rules = picker_rbac(load_release(name))
        assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
        assert [group] in [rule["apiGroups"] for rule in rules]


def test_the_sidecar_stands_before_the_decode_engine() -> None:
    assert sidecar_args(LLMD.release, "nixlv2") == (
        "--port=8000",
        "--model-server-port=8200",
        "--secure-proxy=false",
        "--kv-connector=nixlv2",
    )
    with pytest.raises(Bug, match="no sidecar"):
        sidecar_args(GIE.release, "nixlv2")


def test_every_decision_has_a_rule_with_a_source() -> None:
    for inputs in PICKER_VARIANTS.values():
        rules = picker_config(inputs).rules
        assert len({rule.id for rule in rules}) == len(rules)
        assert all(rule.reason.endswith(".") and rule.source for rule in rules)
