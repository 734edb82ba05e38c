"""The router: Envoy, the program scheduler and the endpoint picker in one pod, with the files and rights that they need."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentic_serving import names
from agentic_serving.api.capability import Capability
from agentic_serving.api.findings import Finding
from agentic_serving.api.matching import Ordering
from agentic_serving.api.rules import Rule
from agentic_serving.capacity.sizing import Unknown, kv_capacity_tokens
from agentic_serving.engines.images import image
from agentic_serving.render.basis import Basis
from agentic_serving.render.engine import KV_EVENTS_PORT, PlannedPool, pool_selector
from agentic_serving.render.envoy import EnvoyConfig, EnvoyInputs, envoy_config, to_yaml
from agentic_serving.render.manifest import Manifest, canonical_hash
from agentic_serving.render.picker import (
    PickerConfig,
    PickerInputs,
    TierIndex,
    picker_args,
    picker_capabilities,
    picker_config,
    picker_findings,
    picker_rbac,
)
from agentic_serving.render.ports import ENVOY_READY_PORT, HTTP_PORT
from agentic_serving.render.programs import routes
from agentic_serving.render.scheduler import (
    SCHEDULER_RULE,
    lease_rules,
    longest_hold_s,
    scheduler_address,
    scheduler_capabilities,
    scheduler_config,
    scheduler_container,
    scheduler_volumes,
)
from agentic_serving.render.supporting import tokenizer_url
from agentic_serving.render.templates import fill

__all__ = [
    "PlannedRouter",
    "config_map",
    "picker_image",
    "plan_router",
    "rbac",
    "router_pod",
    "router_refusals",
    "router_rules",
]

#: Slightly more requests than the engine runs at once, so that its batch never starves while the picker queues
#: the rest. Source: llm-d v0.10, guides/agentic-serving (133 for --max-num-seqs 128).
CONCURRENCY_MARGIN = 1.04
#: The picker drains for 30 s after SIGTERM (--drain-timeout), which comes after the sleep.
PICKER_EXIT_S = 40
#: Until every kube-proxy and client has seen that the pod is leaving.
MIN_SLEEP_S = 5

_POD_RULES = (
    Rule(
        id="router/pod",
        reason="Envoy and picker share a pod: they speak over loopback, and the pod is ready only when both are, since requests "
        "that find no picker fail",
        source="reference configuration run on Envoy 1.40 with llm-d-router v0.10.0",
    ),
    Rule(
        id="router/config-hash",
        reason="Envoy and picker read envoy.yaml and picker.yaml once at start; the hash on the pod template replaces the pods exactly "
        "when one of them changes. Routes and the scheduler's configuration are read again whenever they change, and restart nothing",
        source="llm-d, docs/architecture/router/configuration.md; docs/router.md",
    ),
    Rule(
        id="router/drain",
        reason="Envoy ends at SIGTERM, so the pod first sleeps for spec.disruption.drainTimeout while it leaves the Service and "
        "running answers end",
        source="spec.disruption.drainTimeout",
    ),
    Rule(
        id="router/no-root",
        reason="both images are distroless and need no root, no capability and no writable file system",
        source="https://kubernetes.io/docs/concepts/security/pod-security-standards/",
    ),
    Rule(
        id="router/sizes",
        reason="requests for a few turns per second; at 100,000 prompt tokens the picker takes 0.5 to 1 CPU for each request per second",
        source="llm-d-router v0.10.0, docs/operations.md",
    ),
)
_RBAC = Rule(
    id="router/rbac",
    reason="the picker watches the pods, the pool and the objectives of its own namespace, and changes nothing",
    source="llm-d-router v0.10.0, config/charts/routerlib/templates/_rbac.yaml",
)
_CONFIG = Rule(
    id="router/config",
    reason="what the router does is in files made from the same plan as the engines' arguments",
    source="spec.router, spec.programScheduling, AgentProgram spec",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRouter:
    """The router's files and what they can do.

    Attributes:
        scheduler: text of `scheduler.json`; empty: there is no scheduler.
        request_s: how long a request may take here, waiting included.
    """

    picker: PickerConfig
    envoy: EnvoyConfig
    scheduler: str
    request_s: int
    capabilities: tuple[Capability, ...]

    @property
    def ordering(self) -> Ordering:
        return self.envoy.ordering


def router_refusals(basis: Basis, pools: tuple[PlannedPool, ...]) -> tuple[Finding, ...]:
    """What the picker's release cannot do and the stack asks for."""
    return picker_findings(_picker_inputs(basis, pools))


def plan_router(basis: Basis, pools: tuple[PlannedPool, ...]) -> PlannedRouter:
    """The router's configuration; not to be asked for where `router_refusals` has findings."""
    inputs = _picker_inputs(basis, pools)
    asked = EnvoyInputs(
        release=basis.release,
        programs=routes(basis),
        request_timeout_s=basis.request_timeout_s,
        drain_s=_sleep_s(basis),
        scheduler=basis.scheduling,
        scheduler_address=scheduler_address(basis),
        max_hold_s=longest_hold_s(basis),
    )
    envoy = envoy_config(asked)
    return PlannedRouter(
        picker=picker_config(inputs),
        envoy=envoy,
        request_s=asked.limits.request_s,
        scheduler="" if basis.scheduling == "Off" else scheduler_config(basis, pools, envoy.ordering),
        capabilities=(*picker_capabilities(inputs), *scheduler_capabilities(basis)),
    )


def _picker_inputs(basis: Basis, pools: tuple[PlannedPool, ...]) -> PickerInputs:
    decoding = pools[-1]
    apart = basis.spec.topology.disaggregated
    profile = basis.known_profile
    return PickerInputs(
        release=basis.release,
        model=basis.spec.model.name,
        prefix_routing=basis.spec.router.prefix_routing,
        disaggregated=basis.disaggregated,
        request_timeout_s=basis.request_timeout_s,
        max_concurrency=math.ceil(decoding.engine.max_num_seqs * CONCURRENCY_MARGIN),
        block_tokens=decoding.engine.block_tokens,
        context_tokens=basis.spec.model.context_length or (profile.max_context_tokens if profile else None),
        uncached_token_threshold=apart.uncached_token_threshold if apart else 512,
        hbm_blocks=_device_blocks(basis, pools),
        tiers=_tiers(pools),
        tokenizer_url=tokenizer_url(basis) if basis.precise else "",
        kv_events_port=KV_EVENTS_PORT,
        revision_scope=_selector_text(pool_selector(basis)) if basis.disaggregated else "",
        router_replicas=basis.spec.router.replicas,
        queueing=basis.scheduling != "Enforce",
    )


def _selector_text(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _device_blocks(basis: Basis, pools: tuple[PlannedPool, ...]) -> int | None:
    """Blocks that the device memory of one replica holds: of the smaller pool, as there is one index for all."""
    tokens = [
        kv_capacity_tokens(basis.profile, basis.accelerator, planned.pool.split, basis.memory)
        for planned in pools
    ]
    known = [count for count in tokens if not isinstance(count, Unknown)]
    if len(known) < len(tokens) or not min(known):
        return None
    return min(known) // pools[-1].engine.block_tokens


def _tiers(pools: tuple[PlannedPool, ...]) -> tuple[TierIndex, ...]:
    blocks = [planned.tier.capacity_blocks for planned in pools if planned.tier.capacity_blocks]
    return (TierIndex(name="host", capacity_blocks=min(blocks)),) if blocks else ()


def picker_image(basis: Basis) -> str:
    return basis.spec.router.endpoint_picker.image or basis.release.image


def rbac(basis: Basis) -> Iterator[Manifest]:
    """Account, role and binding of the picker and of the scheduler, which both watch pods."""
    owner = basis.owner
    name = owner.child("router")
    metadata = owner.metadata(name, "router")
    yield Manifest(body=fill("service_account", metadata=metadata), rules=(_RBAC,))
    yield Manifest(
        body=fill("role", metadata=metadata, rules=[*picker_rbac(basis.release), *lease_rules(basis)]),
        rules=(_RBAC,),
    )
    binding = fill(
        "role_binding", metadata=metadata, role=name, service_account=name, namespace=owner.namespace
    )
    yield Manifest(body=binding, rules=(_RBAC,))


def config_map(basis: Basis, router: PlannedRouter) -> Manifest:
    body = fill(
        "config_map",
        metadata=basis.owner.metadata(basis.owner.child("router"), "router"),
        data={
            "envoy.yaml": to_yaml(router.envoy.config),
            "routes.yaml": to_yaml(router.envoy.routes),
            "picker.yaml": to_yaml(router.picker.config),
            **({"scheduler.json": router.scheduler} if router.scheduler else {}),
        },
    )
    return Manifest(body=body, rules=(_CONFIG, *router.envoy.rules, *router.picker.rules))


def _sleep_s(basis: Basis) -> int:
    return max(basis.drain_s, MIN_SLEEP_S)


def router_pod(basis: Basis, config: Manifest, router: PlannedRouter) -> dict[str, Any]:
    """The router's pod template, before the user's own is merged over it."""
    owner = basis.owner
    args = picker_args(
        basis.release,
        router.picker,
        pool_name=owner.name,
        pool_namespace=owner.namespace,
        config_file="/config/picker.yaml",
    )
    return fill(
        "router_pod",
        labels=owner.labels("router"),
        annotations={names.CONFIG_HASH_ANNOTATION: canonical_hash(_read_once(basis, config))},
        selector=owner.selector("router"),
        service_account=owner.child("router"),
        termination_grace_s=_sleep_s(basis) + PICKER_EXIT_S,
        pre_stop_s=_sleep_s(basis),
        envoy_image=image("envoy"),
        picker_image=picker_image(basis),
        picker_args=list(args),
        http_port=HTTP_PORT,
        ready_port=ENVOY_READY_PORT,
        config_map=owner.child("router"),
        schedulers=scheduler_container(basis, pre_stop_s=_sleep_s(basis)),
        scheduler_volumes=scheduler_volumes(basis),
    )


def _read_once(basis: Basis, config: Manifest) -> dict[str, Any]:
    """What the pod's programs read at their start only; all else reaches them while they run."""
    valkey = basis.spec.program_scheduling.state.valkey
    files = {name: config.body["data"][name] for name in ("envoy.yaml", "picker.yaml")}
    return files | ({"valkey": valkey.model_dump()} if valkey else {})


def router_rules(basis: Basis) -> tuple[Rule, ...]:
    return _POD_RULES if basis.scheduling == "Off" else (*_POD_RULES, SCHEDULER_RULE)
