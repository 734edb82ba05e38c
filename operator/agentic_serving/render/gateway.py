"""How requests find the stack: Services, the InferencePool, the HTTPRoute, and each program's objective."""

from collections.abc import Iterator
from typing import Any

from agentic_serving import names
from agentic_serving.api.findings import Finding
from agentic_serving.api.program import AgentProgram
from agentic_serving.api.quantities import format_duration
from agentic_serving.api.rules import Rule
from agentic_serving.api.stack import ParentReference
from agentic_serving.render.basis import Basis
from agentic_serving.render.engine import ENGINE_PORT, pool_selector
from agentic_serving.render.inputs import RenderInputs
from agentic_serving.render.manifest import Manifest
from agentic_serving.render.ports import HTTP_PORT, PICKER_GRPC_PORT
from agentic_serving.render.templates import fill

__all__ = [
    "gateway_findings",
    "http_route",
    "inference_pool",
    "objective",
    "objective_name",
    "objectives_served",
    "services",
]

_MAX_NAME = 253  # a DNS subdomain

_SERVICE = Rule(
    id="router/service",
    reason="clients use one name that does not change; Envoy behind it speaks HTTP/1.1 and cleartext HTTP/2",
    source="https://kubernetes.io/docs/concepts/services-networking/service/",
)
_PICKER_SERVICE = Rule(
    id="router/picker-service",
    reason="an InferencePool must name a Service with the picker's port; no NetworkPolicy admits anyone to it, since Envoy is in the "
    "picker's own pod",
    source="gateway-api-inference-extension v1, InferencePool.spec.endpointPickerRef",
)
_POOL = Rule(
    id="router/inference-pool",
    reason="the picker chooses among the pods that this selects; without a picker requests fail instead of going anywhere",
    source="gateway-api-inference-extension v1, InferencePool",
)
_ROUTE = Rule(
    id="router/http-route",
    reason="the Gateway sends to the stack's own Service, so any implementation of Gateway API will do; its timeout is the "
    "stack's, as the usual 15 s or 60 s end agents' turns",
    source="spec.router.gateway; https://gateway-api.sigs.k8s.io/api-types/httproute/#timeouts-optional",
)
_OBJECTIVE = Rule(
    id="router/objective",
    reason="the picker reads a program's priority from the object that the request's objective header names",
    source="spec.objective.priority of the AgentProgram",
)


def gateway_findings(inputs: RenderInputs) -> Iterator[Finding]:
    """Kinds that the stack cannot do without and the cluster does not serve."""
    if not inputs.serves("inference.networking.k8s.io", "v1", "InferencePool"):
        yield Finding(
            path="spec.router",
            reason="MissingAPI",
            message="the cluster does not serve InferencePool (inference.networking.k8s.io/v1); install the CRDs of "
            "gateway-api-inference-extension v1.0 or later, v1-manifests.yaml",
        )
    wants_route = inputs.stack.spec.router.mode == "Gateway"
    if wants_route and not inputs.serves("gateway.networking.k8s.io", "v1", "HTTPRoute"):
        yield Finding(
            path="spec.router.mode",
            reason="GatewayAPINotInstalled",
            message="mode Gateway needs HTTPRoute (gateway.networking.k8s.io/v1), which the cluster does not serve; install "
            "Gateway API v1.1 or later (standard-install.yaml) and an implementation, or use mode Standalone",
        )


def objectives_served(basis: Basis) -> bool:
    """Whether priorities can be written in the group that this release of the picker reads."""
    release = basis.release
    return basis.inputs.serves(release.objective_group, release.objective_version, "InferenceObjective")


def objective_name(basis: Basis, program: AgentProgram) -> str:
    """`<stack>.<program>`: a stack's name has no dots, so no two stacks share one."""
    name = f"{basis.owner.name}.{program.metadata.name}"
    return name if len(name) <= _MAX_NAME else names.child_name(name, "", limit=_MAX_NAME)


def objective(basis: Basis, program: AgentProgram) -> Manifest:
    body = fill(
        "inference_objective",
        api_version=basis.release.objective_api_version,
        metadata=basis.owner.metadata(objective_name(basis, program), "router"),
        priority=program.spec.objective.priority,
        pool=basis.owner.name,
    )
    return Manifest(body=body, rules=(_OBJECTIVE,))


def services(basis: Basis) -> Iterator[Manifest]:
    owner = basis.owner
    http = {"name": "http", "port": 80, "targetPort": HTTP_PORT, "protocol": "TCP", "appProtocol": "http"}
    yield _service(basis, owner.name, "router", http, _SERVICE)
    picker = {
        "name": "grpc",
        "port": PICKER_GRPC_PORT,
        "targetPort": PICKER_GRPC_PORT,
        "protocol": "TCP",
        "appProtocol": "kubernetes.io/h2c",
    }
    yield _service(basis, owner.child("picker"), "router", picker, _PICKER_SERVICE)


def _service(basis: Basis, name: str, component: str, port: dict[str, Any], rule: Rule) -> Manifest:
    body = fill(
        "service",
        metadata=basis.owner.metadata(name, component),
        selector=basis.owner.selector(component),
        ports=[port],
    )
    return Manifest(body=body, rules=(rule,))


def inference_pool(basis: Basis) -> Manifest:
    body = fill(
        "inference_pool",
        metadata=basis.owner.metadata(basis.owner.name, "router"),
        selector=pool_selector(basis),
        port=ENGINE_PORT,
        picker_service=basis.owner.child("picker"),
    )
    return Manifest(body=body, rules=(_POOL,))


def http_route(basis: Basis, *, request_s: int) -> Manifest | None:
    """`request_s`: how long a request may take in the router."""
    gateway = basis.spec.router.gateway
    if gateway is None:
        return None
    body = fill(
        "http_route",
        metadata=basis.owner.metadata(basis.owner.name, "router"),
        parent_refs=[_parent(reference) for reference in gateway.parent_refs],
        hostnames=list(gateway.hostnames),
        service=basis.owner.name,
        request_timeout=format_duration(request_s),
    )
    return Manifest(body=body, rules=(_ROUTE,))


def _parent(reference: ParentReference) -> dict[str, Any]:
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
    return parent | reference.model_dump(by_alias=True, exclude_none=True)
