"""render.plan: what holds for every plan."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving import names
from agentic_serving.api.program import AgentProgram
from agentic_serving.render.plan import RenderInputs, render
from tests.unit.render.builders import (
    AGGREGATED,
    DISAGGREGATED,
    EXAMPLE_NAMES,
    example_inputs,
    found,
    merged,
    of_kind,
    plan_of,
    pod,
    program,
    stack,
)

KIND_ORDER = [
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "Service",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "InferencePool",
    "Deployment",
    "InferenceObjective",
    "HTTPRoute",
    "PodMonitor",
]
LONG = "a" * 63


@pytest.mark.parametrize("example", EXAMPLE_NAMES)
def test_what_others_refer_to_comes_first(example: str) -> None:
    kinds = [manifest.body["kind"] for manifest in render(example_inputs(example)).manifests]
    assert sorted(kinds, key=KIND_ORDER.index) == kinds


@pytest.mark.parametrize("example", EXAMPLE_NAMES)
def test_every_object_is_named_owned_and_labelled_by_us_alone(example: str) -> None:
    inputs = example_inputs(example, uid="8f0e3c1a")
    plan = render(inputs)
    assert len({manifest.key for manifest in plan.manifests}) == len(plan.manifests)
    for manifest in plan.manifests:
        metadata = manifest.body["metadata"]
        assert metadata["namespace"] == inputs.stack.metadata.namespace
        assert metadata["labels"][names.MANAGED_BY_LABEL] == names.MANAGED_BY_VALUE
        assert metadata["labels"][names.OWNER_UID_LABEL] == "8f0e3c1a"
        (owner,) = metadata["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("8f0e3c1a", True, True)


def test_the_parents_labels_and_annotations_stay_with_the_parent() -> None:
    """Argo CD tracks by them: a child that copies them is pruned."""
    mark = "argocd-mark"
    plan = plan_of(
        uid="u",
        labels={"app.kubernetes.io/instance": mark},
        annotations={"argocd.argoproj.io/tracking-id": mark},
    )
    assert plan.manifests
    assert mark not in json.dumps([manifest.body for manifest in plan.manifests])


def test_without_a_uid_there_is_no_owner_reference() -> None:
    assert all("ownerReferences" not in manifest.body["metadata"] for manifest in plan_of().manifests)


@pytest.mark.parametrize("name", ["c", LONG, LONG[:50] + "-b"])
def test_names_are_legal_however_long_the_stacks_is(name: str) -> None:
    plan = plan_of(base=DISAGGREGATED, name=name, patch={"router": {"prefixRouting": "Precise"}})
    assert plan.manifests
    for manifest in plan.manifests:
        _, kind, own = manifest.key
        assert len(own) <= (names.MAX_CHILD_NAME if kind == "Deployment" else 63)
        labels = manifest.body["metadata"]["labels"]
        assert all(len(value) <= 63 for value in labels.values())


def test_long_names_that_differ_at_the_end_share_no_object() -> None:
    """Check 16 of docs/checks.md."""
    one, other = (plan_of(name=LONG[:-1] + end) for end in "bc")
    assert {m.key for m in one.manifests} & {m.key for m in other.manifests} == set()


@pytest.mark.parametrize("example", EXAMPLE_NAMES)
def test_the_order_of_programs_does_not_matter(example: str) -> None:
    """Check 20 of docs/checks.md."""
    inputs = example_inputs(example)
    turned = RenderInputs(stack=inputs.stack, policy=inputs.policy, programs=tuple(reversed(inputs.programs)))
    assert render(turned) == render(inputs)


def test_going_back_gives_the_same_objects_again() -> None:
    before, between, after = plan_of(), plan_of({"topology": {"aggregated": {"replicas": 5}}}), plan_of()
    assert [m.hash for m in before.manifests] == [m.hash for m in after.manifests]
    assert before.manifests != between.manifests


def test_secrets_are_referred_to_and_never_read() -> None:
    reference = {"name": "hf", "key": "token"}
    source = {"huggingFace": {"repository": "Qwen/Qwen3-32B", "tokenSecretRef": reference}}
    plan = plan_of({"model": {"source": source}})
    env = {e["name"]: e for e in pod(plan, "chat-engine")["spec"]["containers"][0]["env"]}
    assert env["HF_TOKEN"] == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}}


@pytest.mark.parametrize("base", [AGGREGATED, DISAGGREGATED], ids=["aggregated", "disaggregated"])
def test_no_replicas_are_legal(base: Mapping[str, Any]) -> None:
    topology = {
        pool: (
            {"replicas": 0} if pool == "aggregated" else {p: {"replicas": 0} for p in ("prefill", "decode")}
        )
        for pool in base["topology"]
    }
    plan = plan_of({"topology": topology, "router": {"replicas": 0}}, base=base)
    assert plan.accepted
    assert {role.replicas for role in plan.roles} == {0}
    assert of_kind(plan, "PodDisruptionBudget") == []


def test_what_is_planned_is_reported() -> None:
    plan = plan_of(base=DISAGGREGATED)
    assert [(r.name, r.deployment, r.replicas) for r in plan.roles] == [
        ("Prefill", "chat-prefill", 2),
        ("Decode", "chat-decode", 2),
        ("Router", "chat-router", 1),
    ]
    assert plan.endpoint == "http://chat.ns.svc"
    assert plan.resolved.engine_image == "docker.io/vllm/vllm-openai:v0.33.0"
    assert plan.resolved.kv_bytes_per_token == 262_144  # 2 x 64 layers x 8 heads x 128 x 2 bytes
    assert plan.resolved.sizing.startswith("estimated from the built-in profile of Qwen/Qwen3-32B")


def test_capabilities_are_unique_and_few() -> None:
    for example in EXAMPLE_NAMES:
        capabilities = render(example_inputs(example)).capabilities
        keys = [(c.intent, c.role) for c in capabilities]
        assert keys == sorted(set(keys))
        assert len(keys) <= 32


HOSTILE = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40
) | st.sampled_from(["{{ 7*7 }}", "{% raw %}", "a: b", "- x", "]", "\n---\n", "$(POD_IP)", "%REQ(x)%", "'\""])


@settings(deadline=None, max_examples=60)  # each example is four renders
@given(HOSTILE, HOSTILE)
def test_hostile_strings_stay_data(value: str, other: str) -> None:
    """Check 22 of docs/checks.md. Every free string of a spec is found as one value, and nothing else changes."""
    patch = {
        "engine": {"env": [{"name": "A", "value": value}]},
        "podTemplate": {"aggregated": {"metadata": {"annotations": {"note": other}}}},
    }
    plan = plan_of(patch, programs=(matching(value),))
    plain = plan_of(
        merged(patch, {"engine": {"env": [{"name": "A", "value": "v"}]}}), programs=(matching("v"),)
    )
    assert plan.accepted
    env = {e["name"]: e.get("value") for e in pod(plan, "chat-engine")["spec"]["containers"][0]["env"]}
    assert env["A"].replace("$$", "$") == value
    assert pod(plan, "chat-engine")["metadata"]["annotations"]["note"] == other
    assert shape([m.body for m in plan.manifests]) == shape([m.body for m in plain.manifests])


def matching(value: str) -> AgentProgram:
    header = {"name": "x-app", "value": value if value.isprintable() and value.isascii() else "v"}
    return program("p", {"match": {"headers": [header]}})


def shape(value: object) -> object:
    """The structure of JSON values without their texts."""
    if isinstance(value, Mapping):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def test_programs_get_objectives_and_outcomes() -> None:
    programs = (
        program("codex", {"match": {"clients": ["Codex"]}, "objective": {"priority": 7}}),
        program("silent"),
        program("bad", {"match": {"headers": [{"name": "x-a", "type": "RegularExpression", "value": "("}]}}),
    )
    plan = plan_of(programs=programs)
    assert [(o.name, o.accepted, o.reason) for o in plan.programs] == [
        ("bad", False, "InvalidMatch"),
        ("codex", True, "Accepted"),
        ("silent", True, "NoMatch"),
    ]
    assert [m.key[2] for m in of_kind(plan, "InferenceObjective")] == ["chat.codex"]
    objective = found(plan, "InferenceObjective", "chat.codex")
    assert objective["spec"]["priority"] == 7
    assert objective["spec"]["poolRef"]["name"] == "chat"


def test_objectives_of_two_stacks_never_share_a_name() -> None:
    """`a-b` with program `c`, and `a` with program `b-c`."""

    def objectives(stack_name: str, program_name: str) -> set[str]:
        spec = {"match": {"clients": ["Codex"]}}
        plan = plan_of(programs=(program(program_name, spec),), name=stack_name)
        return {m.key[2] for m in of_kind(plan, "InferenceObjective")}

    assert objectives("a-b", "c") & objectives("a", "b-c") == set()


def test_a_plan_depends_on_nothing_but_its_inputs() -> None:
    """Check 20 of docs/checks.md. A fresh parse, another process order: equal inputs, equal plans."""
    assert render(RenderInputs(stack=stack())) == render(RenderInputs(stack=stack()))
