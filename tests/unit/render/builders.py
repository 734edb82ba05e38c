"""Stacks, programs and policies for the tests of this room: parsed from plain objects, as users write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from agentic_serving.api.policy import KVTierPolicy
from agentic_serving.api.program import AgentProgram
from agentic_serving.api.stack import AgenticServingStack
from agentic_serving.api.validate import KINDS, parse
from agentic_serving.capacity.accelerator import load_accelerators
from agentic_serving.render.manifest import Manifest
from agentic_serving.render.plan import Plan, RenderInputs, render

M = TypeVar("M", AgenticServingStack, AgentProgram, KVTierPolicy)

API = "agentic-serving.dev/v1alpha1"
EXAMPLES = Path(__file__).parents[3] / "examples"
EXAMPLE_NAMES = tuple(sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir()))
PRESETS = tuple(sorted(load_accelerators()))

AGGREGATED: Mapping[str, Any] = {
    "model": {"name": "qwen", "source": {"huggingFace": {"repository": "Qwen/Qwen3-32B"}}},
    "accelerator": {"preset": "nvidia-h200"},
    "topology": {"aggregated": {"replicas": 2}},
}
DISAGGREGATED: Mapping[str, Any] = {
    **AGGREGATED,
    "topology": {"disaggregated": {"prefill": {"replicas": 2}, "decode": {"replicas": 2}}},
}


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `patch` over it, maps merged; None removes a key."""
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def stack(
    patch: Mapping[str, Any] | None = None, *, base: Mapping[str, Any] = AGGREGATED, **metadata: Any
) -> AgenticServingStack:
    """A stack whose spec is `base` with `patch` over it."""
    return parsed(
        AgenticServingStack,
        {"metadata": {"name": "chat", "namespace": "ns", **metadata}, "spec": merged(base, patch or {})},
    )


def program(name: str, spec: Mapping[str, Any] | None = None, **metadata: Any) -> AgentProgram:
    """A program for stack `chat`."""
    agents = [{"name": "main", "stackRef": {"name": "chat"}}]
    return parsed(
        AgentProgram,
        {
            "metadata": {"name": name, "namespace": "ns", **metadata},
            "spec": {"agents": agents, **(spec or {})},
        },
    )


def policy(spec: Mapping[str, Any]) -> KVTierPolicy:
    return parsed(KVTierPolicy, {"metadata": {"name": "tiers", "namespace": "ns"}, "spec": spec})


def parsed(model: type[M], body: Mapping[str, Any]) -> M:
    """The object; cross-field errors are allowed, as objects with them reach the renderer too."""
    built, findings = parse(model, {"apiVersion": API, "kind": model.__name__, **body}, unknown="Error")
    assert built is not None, findings
    return built


def objects(example: str) -> list[dict[str, Any]]:
    """The objects of an example, in the order of its files."""
    texts = [file.read_text(encoding="utf-8") for file in sorted((EXAMPLES / example).glob("*.yaml"))]
    return [body for text in texts for body in yaml.safe_load_all(text) if body]


def example_inputs(example: str, *, preset: str | None = None, uid: str = "") -> RenderInputs:
    """What an example asks for, on its own preset or another."""
    by_kind: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for body in objects(example):
        if body["kind"] == "AgenticServingStack":
            body["metadata"]["uid"] = uid
            if preset:
                body["spec"]["accelerator"]["preset"] = preset
        model, findings = parse(KINDS[body["kind"]], body, unknown="Error")
        assert model is not None, findings
        by_kind[body["kind"]].append(model)
    policies = by_kind["KVTierPolicy"]
    return RenderInputs(
        stack=by_kind["AgenticServingStack"][0],
        programs=tuple(by_kind["AgentProgram"]),
        policy=policies[0] if policies else None,
    )


def plan_of(
    patch: Mapping[str, Any] | None = None,
    *,
    base: Mapping[str, Any] = AGGREGATED,
    programs: tuple[AgentProgram, ...] = (),
    tiers: Mapping[str, Any] | None = None,
    served: frozenset[tuple[str, str, str]] | None = None,
    **metadata: Any,
) -> Plan:
    """The plan of a stack; with `tiers`, under a policy of that spec."""
    reference = {"kvTierPolicyRef": {"name": "tiers"}} if tiers else {}
    return render(
        RenderInputs(
            stack=stack(merged(reference, patch or {}), base=base, **metadata),
            programs=programs,
            policy=policy(tiers) if tiers else None,
            served=served,
        )
    )


def found(plan: Plan, kind: str, name: str) -> dict[str, Any]:
    """The body of one object of a plan."""
    bodies = {(m.body["kind"], m.body["metadata"]["name"]): m.body for m in plan.manifests}
    assert (kind, name) in bodies, f"{sorted(bodies)}; {[str(f) for f in plan.findings]}"
    return dict(bodies[kind, name])


def pod(plan: Plan, deployment: str) -> dict[str, Any]:
    """The pod template of one Deployment."""
    return dict(found(plan, "Deployment", deployment)["spec"]["template"])


def container(plan: Plan, deployment: str, name: str) -> dict[str, Any]:
    """One container of a Deployment, native sidecars included."""
    spec = pod(plan, deployment)["spec"]
    return next(c for c in [*spec.get("initContainers", []), *spec["containers"]] if c["name"] == name)


def of_kind(plan: Plan, kind: str) -> list[Manifest]:
    return [manifest for manifest in plan.manifests if manifest.body["kind"] == kind]


def reasons(plan: Plan) -> list[tuple[str, str]]:
    """(path, reason) of every finding."""
    return [(finding.path, finding.reason) for finding in plan.findings]
