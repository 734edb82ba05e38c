"""(stack, programs, policy) → Plan: every object that serving them takes, in the order to write them in.

Engine connector, KV tiers and picker are derived from one basis, so they cannot disagree. A plan with an error
has no objects at all: what runs keeps running untouched.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agentic_serving.api.capability import Capability, Role
from agentic_serving.api.findings import Finding, errors
from agentic_serving.api.stack import Resolved
from agentic_serving.capacity.sizing import Unknown, kv_capacity_tokens
from agentic_serving.render.basis import Basis, settle
from agentic_serving.render.checks import size_findings
from agentic_serving.render.engine import PlannedPool, engine_image, plan_pool
from agentic_serving.render.gateway import gateway_findings, http_route, inference_pool, services
from agentic_serving.render.inputs import RenderInputs
from agentic_serving.render.manifest import Manifest
from agentic_serving.render.monitoring import pod_monitors
from agentic_serving.render.network import network_policies
from agentic_serving.render.pods import PodTemplates, pod_templates
from agentic_serving.render.programs import ProgramOutcome, objectives, outcomes, program_capabilities
from agentic_serving.render.router import (
    PlannedRouter,
    config_map,
    picker_image,
    plan_router,
    rbac,
    router_refusals,
)
from agentic_serving.render.scheduler import scheduler_service
from agentic_serving.render.supporting import supporting_services
from agentic_serving.render.workload import Workload, deployment, disruption_budget

__all__ = ["Plan", "PlannedRole", "RenderInputs", "render"]

#: As `status.capabilities`.
_MAX_CAPABILITIES = 32
#: As `status.resolved.sizing`.
_MAX_SIZING_CHARS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRole:
    """The Deployment behind one role of the stack's status."""

    name: Role
    deployment: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to write, and what to report.

    Attributes:
        manifests: in the order to apply them; empty if a finding is an error.
        supporting: further Deployments that must be available for the stack to work.
        endpoint: base URL for clients in the cluster.
    """

    manifests: tuple[Manifest, ...] = ()
    findings: tuple[Finding, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    resolved: Resolved = field(default_factory=Resolved)
    roles: tuple[PlannedRole, ...] = ()
    supporting: tuple[str, ...] = ()
    endpoint: str = ""
    programs: tuple[ProgramOutcome, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether nothing keeps the stack from being written."""
        return not errors(self.findings)


def render(inputs: RenderInputs) -> Plan:
    """The plan of one stack. Equal inputs give equal plans, whatever the order of programs."""
    early = list(gateway_findings(inputs))
    basis, found = settle(inputs)
    early += found
    if basis is None:
        return Plan(findings=_ordered(early))
    pools = tuple(plan_pool(basis, pool) for pool in basis.pools)
    findings = [*early, *size_findings(basis), *_pool_findings(pools), *router_refusals(basis, pools)]
    if errors(findings):
        return Plan(findings=_ordered(findings), resolved=_resolved(basis))
    router = plan_router(basis, pools)
    templates = pod_templates(basis, pools, config_map(basis, router), router)
    findings += templates.findings
    complete = not errors(findings)
    return Plan(
        manifests=tuple(_manifests(basis, pools, router, templates)) if complete else (),
        findings=_ordered(findings),
        capabilities=_capabilities(basis, pools, router),
        resolved=_resolved(basis),
        roles=_roles(templates),
        supporting=tuple(workload.name for workload in templates.supporting),
        endpoint=f"http://{basis.owner.name}.{basis.owner.namespace}.svc",
        programs=outcomes(basis, router.ordering),
    )


def _pool_findings(pools: tuple[PlannedPool, ...]) -> Iterator[Finding]:
    for planned in pools:
        yield from planned.engine.findings
        yield from planned.tier.findings


def _ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """Errors first, each once: pools share arguments, and so their findings."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: finding.severity != "Error"))


def _manifests(
    basis: Basis, pools: tuple[PlannedPool, ...], router: PlannedRouter, templates: PodTemplates
) -> Iterator[Manifest]:
    """What others refer to comes first; the pool before the picker, which is ready only once it can read it."""
    workloads = templates.workloads
    yield from rbac(basis)
    yield templates.config
    yield from services(basis)
    yield from scheduler_service(basis)
    yield from supporting_services(basis, pools)
    yield from network_policies(basis, pools)
    yield from _present(disruption_budget(basis.owner, workload) for workload in workloads)
    yield inference_pool(basis)
    yield from (deployment(basis.owner, workload) for workload in workloads)
    yield from objectives(basis, router.ordering)
    yield from _present([http_route(basis, request_s=router.request_s)])
    yield from pod_monitors(basis, pools)


def _present(manifests: Iterable[Manifest | None]) -> Iterator[Manifest]:
    return (manifest for manifest in manifests if manifest is not None)


def _roles(templates: PodTemplates) -> tuple[PlannedRole, ...]:
    def role(name: Role, workload: Workload) -> PlannedRole:
        return PlannedRole(name=name, deployment=workload.name, replicas=workload.replicas)

    engines = [role(name, workload) for name, workload in templates.engines.items()]
    return (*engines, role("Router", templates.router))


def _capabilities(
    basis: Basis, pools: tuple[PlannedPool, ...], router: PlannedRouter
) -> tuple[Capability, ...]:
    found = [*router.capabilities, *program_capabilities(basis)]
    for planned in pools:
        found += [*planned.engine.capabilities, *planned.tier.capabilities]
    unique: Mapping[tuple[str, str], Capability] = {(c.intent, c.role): c for c in reversed(found)}
    return tuple(unique[key] for key in sorted(unique))[:_MAX_CAPABILITIES]


def _resolved(basis: Basis) -> Resolved:
    decoding = basis.pools[-1]
    tokens = kv_capacity_tokens(basis.profile, basis.accelerator, decoding.split, basis.memory)
    profile = basis.known_profile
    return Resolved(
        engine_version=basis.version,
        engine_image=engine_image(basis),
        endpoint_picker_image=picker_image(basis),
        devices_per_replica=decoding.split.devices if basis.accelerator.resource_name else 0,
        kv_bytes_per_token=profile.kv_bytes_per_token if profile else None,
        kv_capacity_tokens=None if isinstance(tokens, Unknown) else tokens,
        sizing=_sizing(basis, tokens)[:_MAX_SIZING_CHARS],
    )


def _sizing(basis: Basis, tokens: int | Unknown) -> str:
    """What the sizes rest on, or why there are none."""
    if isinstance(basis.profile, Unknown):
        return basis.profile.reason
    if isinstance(tokens, Unknown):
        return tokens.reason
    origin = (
        "spec.model.profile" if basis.spec.model.profile else f"the built-in profile of {basis.profile.name}"
    )
    return f"estimated from {origin} and the memory of {basis.accelerator.name}"
