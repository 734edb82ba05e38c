"""Every field of every kind: what an edit of it changes, and which Deployments it rolls; nothing else may roll.

The fields are read from the types: a field without a row fails. Check 07 of docs/checks.md.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from agentic_serving.api.policy import KVTierPolicySpec
from agentic_serving.api.program import AgentProgramSpec
from agentic_serving.api.stack import AgenticServingStackSpec
from agentic_serving.render.plan import Plan
from tests.unit.render.builders import AGGREGATED, DISAGGREGATED, merged, plan_of, program

ENGINE, ROUTER = {"chat-engine"}, {"chat-router"}
PREFILL, DECODE = {"chat-prefill"}, {"chat-decode"}
PD = PREFILL | DECODE
NONE: set[str] = set()

PVC = {"huggingFace": None, "persistentVolumeClaim": {"claimName": "models", "path": "qwen"}}
OCI = {"huggingFace": None, "oci": {"image": "registry/qwen:1", "path": "qwen"}}
GATEWAY = {"mode": "Gateway", "gateway": {"parentRefs": [{"name": "g"}]}}
LMCACHE = {"hostMemory": {"backend": "LMCache", "capacityPerReplica": "10Gi"}}
SHARED = {"shared": {"persistentVolumeClaim": {"claimName": "kv"}}}
NATIVE = {"hostMemory": {"backend": "Native", "capacityPerReplica": "10Gi"}}
MATCH = {"match": {"clients": ["Codex"]}}
SESSION = {"identity": {"headers": {"session": "x-run"}}}


VALKEY = {"backend": "Valkey", "valkey": {"address": "v:6379"}}
OBJECTIVE = {"completion": {"target": "5m"}, "firstTokenAfterTool": {"target": "2s"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """From one state to another, and the Deployments whose pods are replaced."""

    after: Mapping[str, Any]
    rolls: set[str]
    before: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=lambda: AGGREGATED)
    refused: str = ""  # reason, where the edit is refused
    finding: str = ""  # reason of a warning, where that is all it changes


def at(path: str, value: object) -> dict[str, Any]:
    """`value` under a dotted path."""
    first, _, rest = path.partition(".")
    return {first: at(rest, value) if rest else value}


def simple(path: str, value: object, rolls: set[str], before: object = None, **more: Any) -> Edit:
    return Edit(
        before=at(path, before) if before is not None else {}, after=at(path, value), rolls=rolls, **more
    )


def pd(path: str, value: object, rolls: set[str]) -> Edit:
    return Edit(base=DISAGGREGATED, after=at(path, value), rolls=rolls)


def with_valkey(path: str, value: object) -> Edit:
    """An edit of the settings of a Valkey that is used, and asks for a password."""
    secret = {"passwordSecretRef": {"name": "s", "key": "k"}}
    before = at("programScheduling.state", merged(VALKEY, {"valkey": secret}))
    return Edit(before=before, after=at(f"programScheduling.state.valkey.{path}", value), rolls=ROUTER)


HUB = "model.source.huggingFace"
PROFILE = {"kvBytesPerToken": 262144, "kvHeads": 8, "weightBytes": "62Gi"}
STACK: Mapping[str, Edit] = {
    "model.name": simple("model.name", "other", ENGINE),
    f"{HUB}.repository": simple(f"{HUB}.repository", "Qwen/Qwen3-8B", ENGINE),
    f"{HUB}.revision": simple(f"{HUB}.revision", "abc", ENGINE),
    f"{HUB}.tokenSecretRef.name": simple(
        f"{HUB}.tokenSecretRef", {"name": "b", "key": "k"}, ENGINE, {"name": "a", "key": "k"}
    ),
    f"{HUB}.tokenSecretRef.key": simple(
        f"{HUB}.tokenSecretRef", {"name": "a", "key": "l"}, ENGINE, {"name": "a", "key": "k"}
    ),
    "model.source.persistentVolumeClaim.claimName": Edit(
        before={"model": {"source": PVC}},
        after=at("model.source", merged(PVC, at("persistentVolumeClaim.claimName", "other"))),
        rolls=ENGINE,
    ),
    "model.source.persistentVolumeClaim.path": Edit(
        before={"model": {"source": PVC}},
        after=at("model.source", merged(PVC, at("persistentVolumeClaim.path", "other"))),
        rolls=ENGINE,
    ),
    "model.source.oci.image": Edit(
        before={"model": {"source": OCI}},
        after=at("model.source", merged(OCI, at("oci.image", "registry/qwen:2"))),
        rolls=ENGINE,
    ),
    "model.source.oci.path": Edit(
        before={"model": {"source": OCI}},
        after=at("model.source", merged(OCI, at("oci.path", "x"))),
        rolls=ENGINE,
    ),
    "model.contextLength": simple("model.contextLength", 8192, ENGINE | ROUTER),
    "model.profile.kvBytesPerToken": Edit(
        before=at("model.profile", PROFILE),
        after=at("model.profile", {**PROFILE, "kvBytesPerToken": 10}),
        rolls=NONE,
    ),
    "model.profile.kvHeads": Edit(
        before=merged(at("model.profile", PROFILE), at("topology.aggregated.parallelism.tensor", 4)),
        after=at("model.profile", {**PROFILE, "kvHeads": 2}),
        rolls=NONE,
    ),
    "model.profile.weightBytes": Edit(
        before=at("model.profile", PROFILE),
        after=at("model.profile", {**PROFILE, "weightBytes": "6Gi"}),
        rolls=NONE,
    ),
    "engine.type": Edit(after={"engine": {"type": "vLLM"}}, rolls=NONE),
    "engine.version": simple("engine.version", "0.33.1", ENGINE),
    "engine.image": simple("engine", {"image": "mine:1", "version": "0.33.0"}, ENGINE),
    "engine.args": simple("engine.args", ["--seed=42"], ENGINE),
    "engine.env.name": simple(
        "engine.env", [{"name": "B", "value": "1"}], ENGINE, [{"name": "A", "value": "1"}]
    ),
    "engine.env.value": simple(
        "engine.env", [{"name": "A", "value": "2"}], ENGINE, [{"name": "A", "value": "1"}]
    ),
    "engine.env.secretKeyRef.name": simple(
        "engine.env", [{"name": "A", "secretKeyRef": {"name": "s", "key": "k"}}], ENGINE
    ),
    "engine.env.secretKeyRef.key": simple(
        "engine.env",
        [{"name": "A", "secretKeyRef": {"name": "s", "key": "l"}}],
        ENGINE,
        [{"name": "A", "secretKeyRef": {"name": "s", "key": "k"}}],
    ),
    "accelerator.preset": simple("accelerator.preset", "nvidia-b200", ENGINE),
    "accelerator.overrides.resourceName": simple(
        "accelerator.overrides.resourceName", "nvidia.com/mig-3g.71gb", ENGINE
    ),
    "accelerator.overrides.memory": simple("accelerator.overrides.memory", "200Gi", NONE),
    "accelerator.overrides.nodeSelector": simple("accelerator.overrides.nodeSelector", {"a": "b"}, ENGINE),
    "accelerator.overrides.cpu": simple("accelerator.overrides.cpu", "8", ENGINE),
    "accelerator.overrides.hostMemory": simple("accelerator.overrides.hostMemory", "64Gi", ENGINE),
    **{
        f"accelerator.overrides.tolerations.{key}": simple(
            "accelerator.overrides.tolerations", [{**toleration, key: value}], ENGINE, [toleration]
        )
        for toleration in [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}]
        for key, value in {"key": "c", "operator": "Exists", "value": "d", "effect": "NoExecute"}.items()
    },
    "topology.aggregated.replicas": simple("topology.aggregated.replicas", 5, NONE),
    "topology.aggregated.parallelism.tensor": simple("topology.aggregated.parallelism.tensor", 2, ENGINE),
    "topology.aggregated.parallelism.pipeline": simple("topology.aggregated.parallelism.pipeline", 2, ENGINE),
    # Twice the ranks run twice the requests, and the picker admits accordingly.
    "topology.aggregated.parallelism.data": simple(
        "topology.aggregated.parallelism.data", 2, ENGINE | ROUTER
    ),
    "topology.aggregated.parallelism.expert": simple(
        "topology.aggregated.parallelism.expert", "Enabled", ENGINE
    ),
    "topology.disaggregated.transfer": pd("topology.disaggregated.transfer", "NIXL", NONE),
    "topology.disaggregated.uncachedTokenThreshold": pd(
        "topology.disaggregated.uncachedTokenThreshold", 9, ROUTER
    ),
    "topology.disaggregated.prefill.replicas": pd("topology.disaggregated.prefill.replicas", 5, NONE),
    "topology.disaggregated.decode.replicas": pd("topology.disaggregated.decode.replicas", 5, NONE),
    # A revision is of both pools: a change of one that may touch the cache rolls the other.
    "topology.disaggregated.prefill.parallelism.tensor": Edit(
        base=DISAGGREGATED,
        before=at("topology.disaggregated.decode.parallelism.tensor", 4),
        after=at("topology.disaggregated.prefill.parallelism.tensor", 2),
        rolls=PD,
    ),
    "topology.disaggregated.prefill.parallelism.pipeline": pd(
        "topology.disaggregated.prefill.parallelism.pipeline", 2, PD
    ),
    "topology.disaggregated.prefill.parallelism.data": Edit(
        base=DISAGGREGATED,
        after=at("topology.disaggregated.prefill.parallelism.data", 2),
        rolls=NONE,
        refused="InvalidSpec",
    ),
    "topology.disaggregated.prefill.parallelism.expert": pd(
        "topology.disaggregated.prefill.parallelism.expert", "Enabled", PD
    ),
    "topology.disaggregated.decode.parallelism.tensor": pd(
        "topology.disaggregated.decode.parallelism.tensor", 2, PD
    ),
    "topology.disaggregated.decode.parallelism.pipeline": pd(
        "topology.disaggregated.decode.parallelism.pipeline", 2, PD
    ),
    "topology.disaggregated.decode.parallelism.data": Edit(
        base=DISAGGREGATED,
        after=at("topology.disaggregated.decode.parallelism.data", 2),
        rolls=NONE,
        refused="InvalidSpec",
    ),
    "topology.disaggregated.decode.parallelism.expert": pd(
        "topology.disaggregated.decode.parallelism.expert", "Enabled", PD
    ),
    "kvTierPolicyRef.name": Edit(
        after=at("kvTierPolicyRef.name", "gone"), rolls=NONE, refused="PolicyNotFound"
    ),
    "router.mode": Edit(after={"router": GATEWAY}, rolls=NONE),
    **{
        f"router.gateway.parentRefs.{key}": simple(
            "router",
            {"mode": "Gateway", "gateway": {"parentRefs": [{"name": "g", key: value}]}},
            NONE,
            GATEWAY,
        )
        for key, value in {"name": "h", "namespace": "n", "sectionName": "s", "port": 80}.items()
    },
    "router.gateway.hostnames": simple(
        "router", merged(GATEWAY, at("gateway.hostnames", ["a.example"])), NONE, GATEWAY
    ),
    "router.endpointPicker.release": simple("router.endpointPicker.release", "gie-1.5", ROUTER),
    "router.endpointPicker.image": simple("router.endpointPicker.image", "mine:1", ROUTER),
    "router.prefixRouting": simple("router.prefixRouting", "Precise", ENGINE | ROUTER | {"chat-tokenizer"}),
    "router.requestTimeout": simple("router.requestTimeout", "1h", ROUTER),
    "router.replicas": simple("router.replicas", 0, NONE),
    "programScheduling.mode": simple("programScheduling.mode", "Observe", ROUTER),
    "programScheduling.state.backend": simple("programScheduling.state", VALKEY, ROUTER),
    "programScheduling.state.valkey.address": with_valkey("address", "w:6379"),
    "programScheduling.state.valkey.tls": with_valkey("tls", "Enabled"),
    **{
        f"programScheduling.state.valkey.passwordSecretRef.{key}": with_valkey(
            "passwordSecretRef", {"name": "s", "key": "k", key: "x"}
        )
        for key in ("name", "key")
    },
    "disruption.drainTimeout": simple("disruption.drainTimeout", "1m", ENGINE | ROUTER),
    "podTemplate.aggregated": simple("podTemplate.aggregated.spec.priorityClassName", "high", ENGINE),
    "podTemplate.prefill": pd("podTemplate.prefill.spec.priorityClassName", "high", PREFILL),
    "podTemplate.decode": pd("podTemplate.decode.spec.priorityClassName", "high", DECODE),
    "podTemplate.router": simple("podTemplate.router.spec.priorityClassName", "high", ROUTER),
}

POLICY: Mapping[str, Edit] = {
    "hostMemory.backend": Edit(before=NATIVE, after=LMCACHE, rolls=ENGINE | ROUTER),
    "hostMemory.capacityPerReplica": Edit(
        before=NATIVE, after=at("hostMemory.capacityPerReplica", "20Gi"), rolls=ENGINE | ROUTER
    ),
    "shared.backend": Edit(before=LMCACHE, after=SHARED, rolls=ENGINE | {"chat-lmcache"}),
    "shared.persistentVolumeClaim.claimName": Edit(
        before={**LMCACHE, **SHARED}, after=at("shared.persistentVolumeClaim.claimName", "x"), rolls=ENGINE
    ),
    "onUnsupported": Edit(
        before=NATIVE,
        after={"onUnsupported": "Reject"},
        base=merged(
            AGGREGATED,
            {
                "accelerator": {"preset": "cpu"},
                **at("model.source.huggingFace.repository", "Qwen/Qwen3-0.6B"),
            },
        ),
        rolls=NONE,
        refused="TierUnsupported",
    ),
}

PROGRAM: Mapping[str, Edit] = {
    "agents.name": Edit(after={"agents": [{"name": "a", "stackRef": {"name": "chat"}}]}, rolls=NONE),
    "agents.stackRef.name": Edit(after={"agents": [{"name": "a", "stackRef": {"name": "chat"}}]}, rolls=NONE),
    # Routes and the scheduler's configuration reach running pods: no program's edit replaces one.
    "match.clients": Edit(before=MATCH, after=at("match.clients", ["OpenCode"]), rolls=NONE),
    **{
        f"match.headers.{key}": Edit(
            before=at("match.headers", [{"name": "x-a", "value": "b"}]),
            after=at("match.headers", [{"name": "x-a", "value": "b", key: value}]),
            rolls=NONE,
        )
        for key, value in {"name": "x-c", "type": "RegularExpression", "value": "d"}.items()
    },
    "identity.headers.session": Edit(
        before={**MATCH, **SESSION}, after=at("identity.headers.session", "x-s"), rolls=NONE
    ),
    "identity.headers.parent": Edit(
        before={**MATCH, **SESSION}, after=at("identity.headers.parent", "x-p"), rolls=NONE
    ),
    "identity.idleTimeout": Edit(before=MATCH, after=at("identity.idleTimeout", "5m"), rolls=NONE),
    # The picker watches objectives.
    "objective.priority": Edit(before=MATCH, after=at("objective.priority", 5), rolls=NONE),
    "objective.completion.target": Edit(
        before=MATCH, after=at("objective.completion.target", "5m"), rolls=NONE
    ),
    "objective.firstTokenAfterTool.target": Edit(
        before=MATCH, after=at("objective.firstTokenAfterTool.target", "2s"), rolls=NONE
    ),
    **{
        f"objective.{path}": Edit(
            before={**MATCH, "objective": OBJECTIVE}, after=at(f"objective.{path}", value), rolls=NONE
        )
        for path, value in {
            "completion.percentile": "P50",
            "completion.unit": "Run",
            "firstTokenAfterTool.percentile": "P50",
        }.items()
    },
    "objective.maxHold": Edit(before=MATCH, after=at("objective.maxHold", "10m"), rolls=NONE),
}

#: Fields whose edit changes nothing that is rendered, and why.
WITHOUT_EFFECT = {
    "engine.type": "there is one engine yet",
    "topology.disaggregated.transfer": "there is one transfer yet",
    "agents.name": "names an agent for people; reported in status",
    "agents.stackRef.name": "chooses which stack renders the program: the controller's index, not the renderer",
}


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Paths of all fields that are not objects themselves, as users write them."""
    for info in model.model_fields.values():
        path = f"{prefix}{info.alias}"
        inner = _model_in(info.annotation)
        if inner is None:
            yield path
        else:
            yield from leaves(inner, f"{path}.")


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_in(part) for part in get_args(annotation)]
    return next((model for model in found if model is not None), None)


@pytest.mark.parametrize(
    ("model", "table"),
    [(AgenticServingStackSpec, STACK), (KVTierPolicySpec, POLICY), (AgentProgramSpec, PROGRAM)],
    ids=["stack", "policy", "program"],
)
def test_every_field_has_a_row(model: type[BaseModel], table: Mapping[str, Edit]) -> None:
    assert set(leaves(model)) - set(table) - set(WITHOUT_EFFECT) == set()
    assert set(table) - set(leaves(model)) == set()


def stack_plans(edit: Edit) -> tuple[Plan, Plan]:
    before = merged(edit.base, edit.before)
    return plan_of(base=before), plan_of(base=merged(before, edit.after))


def policy_plans(edit: Edit) -> tuple[Plan, Plan]:
    return (
        plan_of(base=edit.base, tiers=edit.before),
        plan_of(base=edit.base, tiers=merged(edit.before, edit.after)),
    )


def program_plans(edit: Edit) -> tuple[Plan, Plan]:
    one, other = (program("p", spec) for spec in (edit.before, merged(edit.before, edit.after)))
    return plan_of(programs=(one,)), plan_of(programs=(other,))


CASES = [
    *(pytest.param(path, stack_plans, edit, id=f"stack-{path}") for path, edit in STACK.items()),
    *(pytest.param(path, policy_plans, edit, id=f"policy-{path}") for path, edit in POLICY.items()),
    *(pytest.param(path, program_plans, edit, id=f"program-{path}") for path, edit in PROGRAM.items()),
]


@pytest.mark.parametrize(("path", "plans", "edit"), CASES)
def test_an_edit_changes_what_reads_it_and_rolls_nothing_else(
    path: str, plans: Callable[[Edit], tuple[Plan, Plan]], edit: Edit
) -> None:
    before, after = plans(edit)
    assert before.accepted, before.findings
    if edit.refused:
        assert edit.refused in {finding.reason for finding in after.findings}
        assert after.manifests == ()
        return
    assert after.accepted, after.findings
    assert changed_pods(before, after) == edit.rolls
    assert (before == after) == (path in WITHOUT_EFFECT)


def changed_pods(before: Plan, after: Plan) -> set[str]:
    """Deployments whose pod template differs or that are new; one that is gone is not among them."""
    old, new = pods(before), pods(after)
    return {name for name, template in new.items() if old.get(name) != template}


def pods(plan: Plan) -> dict[str, Any]:
    deployments = [m.body for m in plan.manifests if m.body["kind"] == "Deployment"]
    return {body["metadata"]["name"]: body["spec"]["template"] for body in deployments}
