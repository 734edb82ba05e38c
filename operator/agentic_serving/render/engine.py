"""Engine pods: one Deployment per pool, from the engine's plan and the tiers' plan.

The engine decides its arguments, environment, ports and probes; the tiers decide sidecars and volumes; this
module joins them into one pod that holds what both need.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentic_serving import names
from agentic_serving.api.quantities import format_bytes, parse_bytes
from agentic_serving.api.rules import Rule
from agentic_serving.engines import vllm
from agentic_serving.engines.base import EngineInputs, EnginePlan, KVEvents, SecretKey
from agentic_serving.engines.images import image
from agentic_serving.render.basis import Basis, EnginePool
from agentic_serving.render.picker import sidecar_args
from agentic_serving.render.templates import fill
from agentic_serving.tiers.base import TierInputs, TierPlan
from agentic_serving.tiers.plan import plan_tiers

__all__ = [
    "ENGINE_PORT",
    "KV_EVENTS_PORT",
    "MODEL_LABEL",
    "PD_ROLE_LABEL",
    "PlannedPool",
    "coordinator_name",
    "engine_image",
    "engine_items",
    "engine_pod",
    "engine_rules",
    "plan_pool",
    "pool_selector",
]

#: Where the picker sends requests, on every engine pod.
ENGINE_PORT = 8000
#: Where the engine listens when the P/D sidecar has the port above (llm-d-router v0.10.0, pkg/sidecar/proxy/options.go).
BEHIND_SIDECAR_PORT = 8200
#: vLLM's default, and where the picker looks for events (`podDiscoveryConfig.socketPort`).
KV_EVENTS_PORT = 5557
CACHE_PATH = "/cache"
#: What the sidecar calls the connector (`--kv-connector`).
NIXL = "nixlv2"

SERVING_LABEL = "llm-d.ai/inference-serving"
PD_ROLE_LABEL = "llm-d.ai/role"
ENGINE_TYPE_LABEL = "llm-d.ai/engine-type"
MODEL_LABEL = "llm-d.ai/model"

_POD_RULES = (
    Rule(
        id="engine/no-root",
        reason="the engine needs no root, no capability and no service account token; its root file system stays writable "
        "because compilers write beside their caches",
        source="https://kubernetes.io/docs/concepts/security/pod-security-standards/",
    ),
    Rule(
        id="engine/cache",
        reason="downloads and compiled kernels live as long as the pod, in a volume that its user may write",
        source="vLLM: VLLM_CACHE_ROOT; Hugging Face: HF_HOME",
    ),
    Rule(
        id="engine/devices",
        reason="a replica takes tensor x pipeline x data devices, all of one node",
        source="spec.topology",
    ),
)
_SIDECAR = Rule(
    id="engine/pd-sidecar",
    reason="the sidecar takes the request, has the prefill pod that the picker chose compute the prompt, and hands the rest to the "
    "engine beside it; as a native sidecar it outlives the engine, so that running answers end",
    source="llm-d-router v0.10.0, docs/disaggregation.md",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPool:
    """One pool with what its engine and its tiers need."""

    pool: EnginePool
    engine: EnginePlan
    tier: TierPlan
    image: str

    @property
    def behind_sidecar(self) -> bool:
        return self.pool.role == "Decode"

    @property
    def start_s(self) -> int:
        """How long the startup probe waits."""
        probe = self.engine.probes.startup
        return probe.period_s * probe.failure_threshold


def coordinator_name(basis: Basis) -> str:
    """Name of the LMCache coordinator's Deployment and Service."""
    return basis.owner.child("lmcache")


def engine_image(basis: Basis) -> str:
    return basis.spec.engine.image or image("vllm", basis.accelerator.engine_variant, version=basis.version)


def pool_selector(basis: Basis) -> dict[str, str]:
    """Labels by which the picker, and only by which it, finds engine pods."""
    return {**basis.owner.selector("engine"), SERVING_LABEL: "true"}


def plan_pool(basis: Basis, pool: EnginePool) -> PlannedPool:
    """Asks the tiers, then the engine, which must know what the tiers add."""
    tier = plan_tiers(_tier_inputs(basis, pool))
    return PlannedPool(
        pool=pool,
        tier=tier,
        engine=vllm.plan(_engine_inputs(basis, pool, tier)),
        image=engine_image(basis),
    )


def _tier_inputs(basis: Basis, pool: EnginePool) -> TierInputs:
    return TierInputs(
        policy=basis.policy,
        version=basis.version,
        accelerator=basis.accelerator,
        role=pool.role,
        parallelism=pool.split,
        profile=basis.known_profile,
        block_tokens=basis.tuning.block_tokens,
        engine_image=engine_image(basis),
        engine_packages=basis.packages,
        coordinator_host=f"{coordinator_name(basis)}.{basis.owner.namespace}.svc",
    )


def _engine_inputs(basis: Basis, pool: EnginePool, tier: TierPlan) -> EngineInputs:
    spec, token = basis.spec, basis.weights.token
    host_memory = spec.accelerator.overrides.host_memory
    behind_sidecar = pool.role == "Decode"
    peers = [other.split.tensor for other in basis.pools if other.role != pool.role]
    return EngineInputs(
        role=pool.role,
        served_name=spec.model.name,
        model_ref=basis.weights.model_ref,
        revision=basis.weights.revision,
        context_length=spec.model.context_length,
        parallelism=pool.split,
        accelerator=basis.accelerator,
        version=basis.version,
        custom_image=spec.engine.image is not None,
        port=BEHIND_SIDECAR_PORT if behind_sidecar else ENGINE_PORT,
        behind_sidecar=behind_sidecar,
        connector=_connector(basis, pool, tier),
        kv_events=KVEvents(port=KV_EVENTS_PORT, endpoint_port=ENGINE_PORT) if basis.precise else None,
        shutdown_timeout_s=basis.drain_s,
        peer_tensor=peers[0] if peers else None,
        hf_token=SecretKey(name=token.name, key=token.key) if token else None,
        home_dir=CACHE_PATH,
        extra_env=tier.env,
        tier_shm_bytes=tier.shm_bytes,
        tier_memory_bytes=tier.engine_memory_bytes,
        host_memory_bytes=parse_bytes(host_memory) if host_memory else None,
        user_args=spec.engine.args,
        user_env=basis.user_env,
    )


def _connector(basis: Basis, pool: EnginePool, tier: TierPlan) -> Mapping[str, Any] | None:
    """The one connector of the engine: P/D transfer before the tier, since loads take the first that has a match."""
    children = [tier.connector] if tier.connector else []
    if basis.disaggregated:
        children.insert(0, vllm.nixl_connector(pool.role, basis.accelerator))
    return vllm.combine(children)


def engine_pod(basis: Basis, planned: PlannedPool) -> dict[str, Any]:
    """The pod template of one pool, before the user's own is merged over it."""
    engine = planned.engine
    return fill(
        "engine_pod",
        labels=_labels(basis, planned.pool),
        user=engine.run_as_user,
        termination_grace_s=engine.termination_grace_s,
        node_selector=dict(basis.accelerator.node_selector),
        tolerations=[toleration.to_dict() for toleration in basis.accelerator.tolerations],
        sidecars=[*map(dict, planned.tier.sidecars), *_pd_sidecar(basis, planned)],
        image=planned.image,
        command=list(engine.command),
        args=list(engine.args),
        env=[variable.to_dict() for variable in engine.env],
        ports=[{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in engine.ports],
        resources=_resources(basis, planned),
        startup_probe=engine.probes.startup.to_dict(),
        readiness_probe=engine.probes.readiness.to_dict(),
        liveness_probe=engine.probes.liveness.to_dict(),
        pre_stop_s=engine.pre_stop_s,
        mounts=_mounts(basis, planned),
        volumes=_volumes(basis, planned),
    )


def engine_rules(planned: PlannedPool) -> tuple[Rule, ...]:
    """Why the pod is as it is: the engine's own rules, the tiers', and those of this module."""
    own = (*_POD_RULES, _SIDECAR) if planned.behind_sidecar else _POD_RULES
    return (*planned.engine.rules, *planned.tier.rules, *own)


def engine_items(planned: PlannedPool) -> tuple[tuple[str, Rule], ...]:
    """Every option and variable of the engine with its rule."""
    options = [(option.text, option.rule) for option in planned.engine.options]
    return (*options, *((f"env {variable.name}", variable.rule) for variable in planned.engine.env))


def _labels(basis: Basis, pool: EnginePool) -> dict[str, str]:
    labels = {
        **basis.owner.labels("engine", pool.role.lower()),
        names.ACCELERATOR_LABEL: names.label_value(basis.accelerator.name),
        SERVING_LABEL: "true",
        ENGINE_TYPE_LABEL: "vllm",
        MODEL_LABEL: names.label_value(basis.spec.model.name),
    }
    return labels | ({PD_ROLE_LABEL: pool.label} if pool.label else {})


def _pd_sidecar(basis: Basis, planned: PlannedPool) -> list[dict[str, Any]]:
    if not planned.behind_sidecar or basis.release.sidecar is None:
        return []
    return [
        fill(
            "pd_sidecar",
            image=basis.release.sidecar.image,
            args=list(sidecar_args(basis.release, NIXL)),
            port=ENGINE_PORT,
        )
    ]


def _resources(basis: Basis, planned: PlannedPool) -> dict[str, Any]:
    """Devices and memory are limits as well as requests; CPU is not limited, as throttling stalls the accelerator."""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if basis.accelerator.cpu_request:
        requests["cpu"] = basis.accelerator.cpu_request
    if planned.engine.memory_request_bytes is not None:
        requests["memory"] = format_bytes(planned.engine.memory_request_bytes)
    if planned.engine.memory_limit_bytes is not None:
        limits["memory"] = format_bytes(planned.engine.memory_limit_bytes)
    if basis.accelerator.resource_name:
        devices = str(planned.pool.split.devices)
        requests[basis.accelerator.resource_name] = limits[basis.accelerator.resource_name] = devices
    return {"requests": requests, "limits": limits}


def _mounts(basis: Basis, planned: PlannedPool) -> list[dict[str, Any]]:
    return [
        {"name": "dshm", "mountPath": "/dev/shm"},  # noqa: S108 - the container's shared memory
        {"name": "cache", "mountPath": CACHE_PATH},
        *map(dict, basis.weights.mounts),
        *map(dict, planned.tier.mounts),
    ]


def _volumes(basis: Basis, planned: PlannedPool) -> list[dict[str, Any]]:
    shared_memory = {"medium": "Memory", "sizeLimit": format_bytes(planned.engine.shm_bytes)}
    return [
        {"name": "dshm", "emptyDir": shared_memory},
        {"name": "cache", "emptyDir": {}},
        *map(dict, basis.weights.volumes),
        *map(dict, planned.tier.volumes),
    ]
