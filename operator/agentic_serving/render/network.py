"""Who may reach whom: one NetworkPolicy per component, allowing what must talk and nothing else.

Picker, stores and engines have no authentication of their own, so this is what keeps strangers out. It holds
only where a network plugin enforces NetworkPolicies. Egress is left open: engines download models, and names
of outside hosts cannot be written into a NetworkPolicy.
"""

from collections.abc import Iterator
from typing import Any

from agentic_serving import names
from agentic_serving.api.rules import Rule
from agentic_serving.render.basis import Basis
from agentic_serving.render.engine import ENGINE_PORT, KV_EVENTS_PORT, PlannedPool
from agentic_serving.render.manifest import Manifest
from agentic_serving.render.ports import (
    COORDINATOR_PORT,
    ENVOY_READY_PORT,
    HTTP_PORT,
    LMCACHE_PORT,
    PICKER_METRICS_PORT,
    SCHEDULER_HTTP_PORT,
    SCHEDULER_PORT,
    TOKENIZER_PORT,
)
from agentic_serving.render.templates import fill

__all__ = ["MONITORING_LABEL", "network_policies"]

#: A namespace with this label may read metrics: put it on the one that Prometheus runs in.
MONITORING_LABEL = f"{names.GROUP}/monitoring"
_MONITORING = {"namespaceSelector": {"matchLabels": {MONITORING_LABEL: "enabled"}}}

_ENGINES = Rule(
    id="network/engines",
    reason="engines have no authentication: requests come from the router, KV cache from pods of the same stack on ports that the "
    f"transfer library chooses, metrics are read from namespaces labelled {MONITORING_LABEL}=enabled",
    source="vLLM, docs/usage/security.md",
)
_ROUTER = Rule(
    id="network/router",
    reason="clients may come from anywhere to the one HTTP port; picker and program scheduler listen without TLS on all addresses: "
    "only Envoy in the same pod may speak to the picker, and router pods of the same stack to the active scheduler; metrics, and the "
    f"scheduler's reports, are read from namespaces labelled {MONITORING_LABEL}=enabled",
    source="llm-d-router v0.10.0, pkg/epp/server/options.go (secure-serving)",
)
_SUPPORTING = Rule(
    id="network/supporting",
    reason="only the component that uses it may reach it",
    source="https://kubernetes.io/docs/concepts/services-networking/network-policies/",
)


def network_policies(basis: Basis, pools: tuple[PlannedPool, ...]) -> Iterator[Manifest]:
    yield _policy(basis, "engine", _engine_ingress(basis, pools), _ENGINES)
    yield _policy(basis, "router", _router_ingress(basis), _ROUTER)
    if basis.precise:
        rule = {"from": [_pods(basis, "router")], "ports": [_port(TOKENIZER_PORT)]}
        yield _policy(basis, "tokenizer", [rule], _SUPPORTING)
    if any(planned.tier.coordinator for planned in pools):
        rule = {"from": [_pods(basis, "engine")], "ports": [_port(COORDINATOR_PORT)]}
        yield _policy(basis, "lmcache", [rule], _SUPPORTING)


def _engine_ingress(basis: Basis, pools: tuple[PlannedPool, ...]) -> list[dict[str, Any]]:
    requests = [_port(ENGINE_PORT)]
    if basis.precise:
        requests.append(_kv_events(max(planned.pool.split.data for planned in pools)))
    metrics = {ENGINE_PORT, *(planned.engine.metrics_port for planned in pools)}
    if any(planned.tier.sidecars for planned in pools):
        metrics.add(LMCACHE_PORT)
    rules: list[dict[str, Any]] = [
        {"from": [_pods(basis, "router")], "ports": requests},
        {"from": [_MONITORING], "ports": [_port(number) for number in sorted(metrics)]},
    ]
    if basis.disaggregated:
        rules.append({"from": [_pods(basis, "engine")]})
    if any(planned.tier.coordinator for planned in pools):
        rules.append({"from": [_pods(basis, "lmcache")], "ports": [_port(LMCACHE_PORT)]})
    return rules


def _router_ingress(basis: Basis) -> list[dict[str, Any]]:
    metrics = [PICKER_METRICS_PORT, ENVOY_READY_PORT]
    if basis.scheduling != "Off":
        metrics.append(SCHEDULER_HTTP_PORT)
    rules: list[dict[str, Any]] = [
        {"ports": [_port(HTTP_PORT)]},
        {"from": [_MONITORING], "ports": [_port(number) for number in metrics]},
    ]
    if basis.shares_scheduler:
        active = [_port(SCHEDULER_PORT), _port(SCHEDULER_HTTP_PORT)]
        rules.append({"from": [_pods(basis, "router")], "ports": active})
    return rules


def _kv_events(data_ranks: int) -> dict[str, Any]:
    """Rank r of a data-parallel engine publishes on the port plus r."""
    port = _port(KV_EVENTS_PORT)
    return port if data_ranks == 1 else {**port, "endPort": KV_EVENTS_PORT + data_ranks - 1}


def _port(number: int) -> dict[str, Any]:
    return {"protocol": "TCP", "port": number}


def _pods(basis: Basis, component: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": basis.owner.selector(component)}}


def _policy(basis: Basis, component: str, ingress: list[dict[str, Any]], rule: Rule) -> Manifest:
    body = fill(
        "network_policy",
        metadata=basis.owner.metadata(basis.owner.child(component), component),
        selector=basis.owner.selector(component),
        ingress=ingress,
    )
    return Manifest(body=body, rules=(rule,))
