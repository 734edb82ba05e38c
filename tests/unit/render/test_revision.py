"""render.revision: what must agree between prefill and decode gives both a new revision, and only that."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from agentic_serving import names
from agentic_serving.render.plan import Plan
from tests.unit.render.builders import AGGREGATED, DISAGGREGATED, found, merged, plan_of, pod

FIELD = "topology.disaggregated"


def revisions(plan: Plan) -> set[str]:
    return {
        pod(plan, name)["metadata"]["labels"][names.REVISION_LABEL]
        for name in ("chat-prefill", "chat-decode")
    }


def test_both_pools_carry_one_revision_that_is_not_part_of_any_selector() -> None:
    plan = plan_of(base=DISAGGREGATED)
    assert len(revisions(plan)) == 1
    for name in ("chat-prefill", "chat-decode"):
        selector = found(plan, "Deployment", name)["spec"]["selector"]["matchLabels"]
        assert names.REVISION_LABEL not in selector
    assert names.REVISION_LABEL not in found(plan, "InferencePool", "chat")["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize(
    "patch",
    [
        {"engine": {"image": "mine:2", "version": "0.33.0"}},
        {"engine": {"args": ["--kv-cache-dtype=fp8"]}},
        {"engine": {"args": ["--block-size=128"]}},
        {"engine": {"env": [{"name": "VLLM_KV_CACHE_LAYOUT", "value": "NHD"}]}},
        {"model": {"source": {"huggingFace": {"revision": "abc"}}}},
        {"topology": {"disaggregated": {"decode": {"parallelism": {"tensor": 2}}}}},
        {
            "podTemplate": {
                "decode": {"spec": {"containers": [{"name": "engine", "env": [{"name": "X", "value": "1"}]}]}}
            }
        },
    ],
    ids=["image", "kv-dtype", "block-size", "layout", "weights", "decode-width", "decode-env"],
)
def test_what_may_touch_the_cache_is_a_new_revision_of_both(patch: Mapping[str, Any]) -> None:
    before, after = plan_of(base=DISAGGREGATED), plan_of(patch, base=DISAGGREGATED)
    assert after.accepted, after.findings
    assert len(revisions(after)) == 1
    assert revisions(before) != revisions(after)


@pytest.mark.parametrize(
    "patch",
    [
        {"topology": {"disaggregated": {"decode": {"replicas": 7}}}},
        {"disruption": {"drainTimeout": "1m"}},
        {"accelerator": {"overrides": {"cpu": "8"}}},
        {"podTemplate": {"prefill": {"spec": {"priorityClassName": "high"}}}},
        {"router": {"requestTimeout": "1h"}},
    ],
    ids=["replicas", "drain", "cpu", "priority", "router"],
)
def test_what_cannot_touch_the_cache_keeps_the_revision(patch: Mapping[str, Any]) -> None:
    assert revisions(plan_of(base=DISAGGREGATED)) == revisions(plan_of(patch, base=DISAGGREGATED))


def test_the_picker_pairs_by_the_label_that_the_pods_carry() -> None:
    plan = plan_of(base=DISAGGREGATED)
    config = yaml.safe_load(found(plan, "ConfigMap", "chat-router")["data"]["picker.yaml"])
    (screener,) = [p for p in config["plugins"] if p["type"] == "disaggregatedset-rollout-screener"]
    gating = screener["parameters"]["revisionGating"]
    scope = dict(term.split("=") for term in screener["parameters"]["scope"]["labelSelector"].split(","))
    for name, role in (("chat-prefill", "prefill"), ("chat-decode", "decode")):
        labels = pod(plan, name)["metadata"]["labels"]
        assert scope.items() <= labels.items()
        assert labels[gating["roleLabelKey"]] == role
        assert labels[gating["revisionLabelKey"]]
    assert gating["requireRoles"] == {"values": ["decode"]}
    args = pod(plan, "chat-router")["spec"]["containers"][1]["args"]
    assert (
        "--allow-experimental-plugins=true" in args
    )  # the plugin is Alpha: without it the picker does not start


def test_an_aggregated_pool_has_no_revision() -> None:
    plan = plan_of(base=merged(AGGREGATED, {}))
    assert names.REVISION_LABEL not in pod(plan, "chat-engine")["metadata"]["labels"]
