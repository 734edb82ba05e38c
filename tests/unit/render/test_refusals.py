"""render.plan: what is refused, by path and reason, and what a cluster may lack."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.render.builders import of_kind, plan_of, program, reasons

REFUSED = [
    pytest.param(
        {"accelerator": {"preset": "nvidia-h20"}}, "spec.accelerator.preset", "UnknownPreset", id="preset"
    ),
    pytest.param(
        {"router": {"endpointPicker": {"release": "llm-d-9"}}},
        "spec.router.endpointPicker.release",
        "UnknownRelease",
        id="release",
    ),
    pytest.param(
        {"kvTierPolicyRef": {"name": "gone"}}, "spec.kvTierPolicyRef.name", "PolicyNotFound", id="policy"
    ),
    *(
        pytest.param(
            {"router": {"replicas": 2}, "programScheduling": {"mode": mode}},
            "spec.router.replicas",
            "PickerStatePerPod",
            id=f"two-routers-{mode}",
        )
        for mode in ("Observe", "Off")
    ),
    pytest.param(
        {"router": {"endpointPicker": {"release": "gie-1.5"}, "prefixRouting": "Precise"}},
        "spec.router.prefixRouting",
        "PrecisePrefixRoutingUnsupported",
        id="precise",
    ),
    pytest.param(
        {
            "topology": {"aggregated": None, "disaggregated": {}},
            "router": {"endpointPicker": {"release": "gie-1.5"}},
        },
        "spec.topology.disaggregated",
        "DisaggregationUnsupported",
        id="disaggregated",
    ),
    pytest.param(
        {"model": {"contextLength": 1_000_000}}, "spec.model.contextLength", "ContextTooLong", id="context"
    ),
    pytest.param(
        {"topology": {"aggregated": {"parallelism": {"tensor": 16}}}},
        "spec.topology.aggregated.parallelism",
        "TooManyDevices",
        id="devices",
    ),
    pytest.param(
        {"model": {"profile": {"kvBytesPerToken": 262144, "weightBytes": "200Gi"}}},
        "spec.topology.aggregated",
        "ModelDoesNotFit",
        id="weights",
    ),
    pytest.param({"engine": {"args": ["--port=1"]}}, "spec.engine.args[0]", "ArgumentOwned", id="argument"),
    pytest.param({"engine": {"version": "0.1.0"}}, "spec.engine.version", None, id="version"),
    pytest.param(
        {
            "topology": {
                "aggregated": None,
                "disaggregated": {"prefill": {"parallelism": {"tensor": 4}}, "decode": {}},
            }
        },
        "spec.topology.disaggregated.decode",
        "InvalidSpec",
        id="narrow-decode",
    ),
]


@pytest.mark.parametrize(("patch", "path", "reason"), REFUSED)
def test_what_cannot_be_carried_out_is_refused_by_path(
    patch: Mapping[str, Any], path: str, reason: str | None
) -> None:
    plan = plan_of(patch)
    assert not plan.accepted
    assert plan.manifests == ()
    assert path in [finding.path for finding in plan.findings]
    if reason:
        assert (path, reason) in reasons(plan)


def test_all_findings_come_at_once() -> None:
    plan = plan_of({"accelerator": {"preset": "x"}, "router": {"endpointPicker": {"release": "y"}}})
    assert {reason for _, reason in reasons(plan)} == {"UnknownPreset", "UnknownRelease"}


def test_a_model_that_does_not_fit_says_so_in_numbers() -> None:
    plan = plan_of({"model": {"profile": {"kvBytesPerToken": 262144, "weightBytes": "200Gi"}}})
    (finding,) = plan.findings
    assert "200" in finding.message
    assert "tensor" in finding.message


def test_an_unknown_model_runs_and_says_why_nothing_is_sized() -> None:
    source = {"huggingFace": {"repository": "somebody/new"}}
    plan = plan_of({"model": {"name": "new", "source": source}})
    assert plan.accepted
    assert ("spec.model", "SizingOff") in reasons(plan)
    assert "spec.model.profile" in plan.resolved.sizing


@pytest.mark.parametrize(
    ("missing", "patch", "path", "reason"),
    [
        ("InferencePool", {}, "spec.router", "MissingAPI"),
        (
            "HTTPRoute",
            {"router": {"mode": "Gateway", "gateway": {"parentRefs": [{"name": "g"}]}}},
            "spec.router.mode",
            "GatewayAPINotInstalled",
        ),
    ],
)
def test_a_kind_that_the_cluster_lacks_is_named(
    missing: str, patch: Mapping[str, Any], path: str, reason: str
) -> None:
    plan = plan_of(patch, served=served_without(missing))
    assert reasons(plan) == [(path, reason)]
    assert "install" in plan.findings[0].message


def test_kinds_that_may_be_missing_are_left_out() -> None:
    chat = program("p", {"match": {"clients": ["Codex"]}, "objective": {"priority": 5}})
    plan = plan_of(
        {"programScheduling": {"mode": "Observe"}},
        programs=(chat,),
        served=served_without("PodMonitor", "InferenceObjective", "HTTPRoute"),
    )
    assert plan.accepted
    assert of_kind(plan, "PodMonitor") == of_kind(plan, "InferenceObjective") == []
    (priority,) = [c for c in plan.capabilities if c.intent == "ProgramPriority"]
    assert priority.state == "Unsupported"


def served_without(*kinds: str) -> frozenset[tuple[str, str, str]]:
    everything = {
        ("inference.networking.k8s.io", "v1", "InferencePool"),
        ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
        ("llm-d.ai", "v1alpha2", "InferenceObjective"),
        ("monitoring.coreos.com", "v1", "PodMonitor"),
    }
    return frozenset(entry for entry in everything if entry[2] not in kinds)
