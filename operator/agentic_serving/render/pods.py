"""All pod templates of a stack, with the user's own merged last."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentic_serving.api.capability import Role
from agentic_serving.api.findings import Finding, errors
from agentic_serving.api.rules import Rule
from agentic_serving.render.basis import Basis
from agentic_serving.render.engine import PlannedPool, engine_items, engine_pod, engine_rules
from agentic_serving.render.manifest import Manifest
from agentic_serving.render.podtemplate import check_pod_template, merge_pod_template
from agentic_serving.render.revision import label_revision, revision_of
from agentic_serving.render.router import PlannedRouter, router_pod, router_rules
from agentic_serving.render.supporting import coordinator, tokenizer
from agentic_serving.render.workload import SURGE, Workload, rolling_update

__all__ = ["PodTemplates", "pod_templates"]

#: The router starts in seconds; image pulls come on top.
_ROUTER_START_S = 120

_USER = Rule(id="user/pod-template", reason="merged last over what was generated", source="spec.podTemplate")
_REVISION = Rule(
    id="engine/revision",
    reason="the picker pairs prefill and decode pods of one revision only, so that a rollout never moves KV cache between "
    "engines that may not understand each other",
    source="docs/decisions/0002-prefill-decode-revisions.md",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplates:
    """Every Deployment of a stack, ready to be written."""

    engines: Mapping[Role, Workload]
    supporting: tuple[Workload, ...]
    router: Workload
    config: Manifest
    findings: tuple[Finding, ...]

    @property
    def workloads(self) -> tuple[Workload, ...]:
        return (*self.engines.values(), *self.supporting, self.router)


def pod_templates(
    basis: Basis, pools: tuple[PlannedPool, ...], config: Manifest, router: PlannedRouter
) -> PodTemplates:
    findings = list(_without_effect(basis))
    pods = [_with_users(basis, planned.pool.role, engine_pod(basis, planned), findings) for planned in pools]
    if basis.disaggregated and not errors(findings):
        revision = revision_of(pods)
        for pod in pods:
            label_revision(pod, revision)
    supporting = [tokenizer(basis), coordinator(basis, pools)]
    return PodTemplates(
        engines={
            planned.pool.role: _engine(basis, planned, pod) for planned, pod in zip(pools, pods, strict=True)
        },
        supporting=tuple(workload for workload in supporting if workload is not None),
        router=_router(basis, _with_users(basis, "Router", router_pod(basis, config, router), findings)),
        config=config,
        findings=tuple(findings),
    )


def _users(basis: Basis) -> Mapping[Role, Mapping[str, Any] | None]:
    given = basis.spec.pod_template
    return {
        "Aggregated": given.aggregated,
        "Prefill": given.prefill,
        "Decode": given.decode,
        "Router": given.router,
    }


def _without_effect(basis: Basis) -> list[Finding]:
    """Templates for pools that this topology does not have."""
    present = {"Router", *(pool.role for pool in basis.pools)}
    return [
        Finding(
            path=f"spec.podTemplate.{role.lower()}",
            reason="NoEffect",
            message="this topology has no such pool, so the template has no effect; remove it",
            severity="Warning",
        )
        for role, patch in _users(basis).items()
        if patch and role not in present
    ]


def _with_users(
    basis: Basis, role: Role, generated: dict[str, Any], findings: list[Finding]
) -> dict[str, Any]:
    """The generated template with the user's over it, unless that touches what the operator owns."""
    patch = _users(basis)[role]
    if not patch:
        return generated
    wrong = check_pod_template(patch, generated, f"spec.podTemplate.{role.lower()}")
    findings += wrong
    return generated if wrong else merge_pod_template(generated, patch)


def _engine(basis: Basis, planned: PlannedPool, pod: dict[str, Any]) -> Workload:
    pool = planned.pool
    rules = engine_rules(planned)
    return Workload(
        name=basis.owner.child(pool.suffix),
        component="engine",
        role=pool.role.lower(),
        replicas=pool.replicas,
        pod=pod,
        rolling_update=rolling_update(pool.replicas, scarce=basis.accelerator.resource_name is not None),
        start_s=planned.start_s,
        rules=(*rules, *((_REVISION,) if basis.disaggregated else ()), *_user_rule(basis, pool.role)),
        items=engine_items(planned),
    )


def _router(basis: Basis, pod: dict[str, Any]) -> Workload:
    return Workload(
        name=basis.owner.child("router"),
        component="router",
        replicas=basis.spec.router.replicas,
        pod=pod,
        rolling_update=SURGE,
        start_s=_ROUTER_START_S,
        rules=(*router_rules(basis), *_user_rule(basis, "Router")),
    )


def _user_rule(basis: Basis, role: Role) -> tuple[Rule, ...]:
    return (_USER,) if _users(basis)[role] else ()
